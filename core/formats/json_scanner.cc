#include "core/formats/json_scanner.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

void AppendUtf8(uint32_t code, std::string& text) {
  if (code < 0x80) {
    text += static_cast<char>(code);
    return;
  }
  // The first byte tells the number of bytes, each following one carries six bits.
  const int following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const uint32_t first_byte_mark[] = {0xc0, 0xe0, 0xf0};
  text += static_cast<char>(first_byte_mark[following - 1] | code >> (6 * following));
  for (int i = following - 1; i >= 0; --i) {
    text += static_cast<char>(0x80 | (code >> (6 * i) & 0x3f));
  }
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) continue;
    const int following = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || text.size() - i < static_cast<size_t>(following)) {
      return false;
    }
    uint32_t code = first & (0x3f >> following);
    for (int k = 0; k < following; ++k) {
      const auto byte = static_cast<unsigned char>(text[i++]);
      if ((byte & 0xc0) != 0x80) return false;
      code = code << 6 | (byte & 0x3f);
    }
    const uint32_t least[] = {0x80, 0x800, 0x10000};
    if (code < least[following - 1] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      return false;
    }
  }
  return true;
}

absl::Status JsonScanner::Error(const std::string& what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " at byte ", position_, " of the JSON text"));
}

void JsonScanner::SkipSpace() {
  position_ = std::min(text_.find_first_not_of(" \t\n\r", position_), text_.size());
}

bool JsonScanner::Take(char c) {
  SkipSpace();
  if (position_ == text_.size() || text_[position_] != c) return false;
  ++position_;
  return true;
}

absl::Status JsonScanner::List(char open, char close, absl::FunctionRef<absl::Status()> item) {
  if (!Take(open)) return Error(absl::StrCat("expected ", std::string(1, open)));
  if (Take(close)) return absl::OkStatus();
  do {
    if (absl::Status status = item(); !status.ok()) return status;
  } while (Take(','));
  if (!Take(close)) return Error(absl::StrCat("expected , or ", std::string(1, close)));
  return absl::OkStatus();
}

absl::Status JsonScanner::Object(absl::FunctionRef<absl::Status(const std::string& key)> member) {
  return List('{', '}', [&]() -> absl::Status {
    absl::StatusOr<std::string> key = String();
    if (!key.ok()) return key.status();
    if (!Take(':')) return Error("expected :");
    return member(*key);
  });
}

absl::Status JsonScanner::Array(absl::FunctionRef<absl::Status()> element) {
  return List('[', ']', element);
}

absl::StatusOr<uint32_t> JsonScanner::HexDigits4() {
  const std::string_view digits = text_.substr(position_, 4);
  uint32_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) {
    return Error("expected four hexadecimal digits");
  }
  position_ += 4;
  return value;
}

absl::Status JsonScanner::AppendEscape(std::string& value) {
  constexpr std::string_view kShort = "\"\\/bfnrt";
  constexpr std::string_view kMeaning = "\"\\/\b\f\n\r\t";
  const char escape = position_ < text_.size() ? text_[position_++] : '\0';
  if (const size_t i = kShort.find(escape); i != std::string_view::npos) {
    value += kMeaning[i];
    return absl::OkStatus();
  }
  if (escape != 'u') return Error("unknown escape");
  absl::StatusOr<uint32_t> code = HexDigits4();
  if (!code.ok()) return code.status();
  if (*code >= 0xd800 && *code < 0xdc00 && text_.substr(position_, 2) == "\\u") {
    position_ += 2;
    absl::StatusOr<uint32_t> low = HexDigits4();
    if (!low.ok()) return low.status();
    if (*low < 0xdc00 || *low >= 0xe000) return Error("half a surrogate pair");
    code = 0x10000 + ((*code - 0xd800) << 10) + (*low - 0xdc00);
  }
  if (*code >= 0xd800 && *code < 0xe000) return Error("half a surrogate pair");
  AppendUtf8(*code, value);
  return absl::OkStatus();
}

absl::StatusOr<std::string> JsonScanner::String() {
  if (!Take('"')) return Error("expected a string");
  std::string value;
  while (position_ < text_.size()) {
    const char c = text_[position_++];
    if (c == '"') {
      if (!IsUtf8(value)) return Error("string is not UTF-8");
      return value;
    }
    if (static_cast<unsigned char>(c) < 0x20) return Error("control character in a string");
    if (c != '\\') {
      value += c;
    } else if (absl::Status status = AppendEscape(value); !status.ok()) {
      return status;
    }
  }
  return Error("unterminated string");
}

absl::StatusOr<int64_t> JsonScanner::NonNegativeInteger() {
  // A zero stands alone: a digit after it then fails as an unexpected character.
  if (Take('0')) return 0;
  const std::string_view rest = text_.substr(position_);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc() || rest[0] == '-')
    return Error("expected a whole number from 0 to 2^63 - 1");
  position_ += end - rest.data();
  return value;
}

absl::StatusOr<std::string> JsonScanner::Number() {
  SkipSpace();
  size_t end = position_;
  const auto digits = [&] {
    const size_t first = end;
    end = std::min(text_.find_first_not_of("0123456789", first), text_.size());
    return end - first;
  };
  const auto one_of = [&](std::string_view characters) {
    if (end == text_.size() || characters.find(text_[end]) == characters.npos) return false;
    ++end;
    return true;
  };
  one_of("-");
  const bool leading_zero = end < text_.size() && text_[end] == '0';
  const size_t whole = digits();
  bool valid = whole > 0 && !(leading_zero && whole > 1);
  if (one_of(".")) valid = digits() > 0 && valid;
  if (one_of("eE")) {
    one_of("+-");
    valid = digits() > 0 && valid;
  }
  if (!valid) return Error("expected a number");
  const std::string number(text_.substr(position_, end - position_));
  position_ = end;
  return number;
}

absl::Status JsonScanner::Literal(std::string_view word) {
  SkipSpace();
  if (text_.substr(position_, word.size()) != word) return Error("expected a value");
  position_ += word.size();
  return absl::OkStatus();
}

char JsonScanner::Peek() {
  SkipSpace();
  return position_ == text_.size() ? '\0' : text_[position_];
}

absl::Status JsonScanner::End() {
  SkipSpace();
  return position_ == text_.size() ? absl::OkStatus() : Error("unexpected text after the end");
}

std::string JsonQuote(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppend(&quoted, "\\u", absl::Hex(static_cast<uint8_t>(c), absl::kZeroPad4));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace lockstep
