#include "server/api/names.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace lockstep {

absl::Status CheckName(const std::string& field, const std::string& value, size_t max_length,
                       const std::string& punctuation) {
  const bool allowed = std::all_of(value.begin(), value.end(), [&](unsigned char c) {
    return absl::ascii_isalnum(c) || punctuation.find(c) != std::string::npos;
  });
  if (allowed && !value.empty() && value.size() <= max_length) return absl::OkStatus();
  // A hostile name may be long and binary; the message is neither.
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": must be 1 to ", max_length, " characters of A-Z a-z 0-9 ", punctuation,
                   ", got \"", absl::CHexEscape(value.substr(0, 2 * max_length)), "\""));
}

}  // namespace lockstep
