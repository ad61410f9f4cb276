#include "server/telemetry/json_string.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

struct CodePoint {
  uint32_t value;
  size_t bytes;
};

constexpr uint32_t kReplacement = 0xFFFD;

// The code point that `text` begins with; of what is not UTF-8 (too long a form and surrogates
// included) one byte, as the replacement character.
CodePoint Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t bytes = first >= 0xF0 && first < 0xF5   ? 4
                       : first >= 0xE0 && first < 0xF0 ? 3
                       : first >= 0xC2 && first < 0xE0 ? 2
                                                       : 0;
  if (bytes == 0 || bytes > text.size()) return {kReplacement, 1};
  uint32_t value = first & (0x7F >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {kReplacement, 1};
    value = value << 6 | (byte(i) & 0x3F);
  }
  const bool too_long = (bytes == 3 && value < 0x800) || (bytes == 4 && value < 0x10000);
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  if (too_long || surrogate || value > 0x10FFFF) return {kReplacement, 1};
  return {value, bytes};
}

bool IsControl(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029;
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    if (c.value == '"' || c.value == '\\') {
      out->push_back('\\');
      out->push_back(static_cast<char>(c.value));
    } else if (c.value == '\n') {
      *out += "\\n";
    } else if (IsControl(c.value)) {
      absl::StrAppendFormat(out, "\\u%04x", c.value);
    } else if (c.value == kReplacement) {
      *out += "\xEF\xBF\xBD";
    } else {
      *out += text.substr(0, c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  out->push_back('"');
}

}  // namespace lockstep
