#ifndef LOCKSTEP_CORE_FORMATS_JSON_SCANNER_H_
#define LOCKSTEP_CORE_FORMATS_JSON_SCANNER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// As RFC 3629 has it: no overlong forms, no surrogates.
bool IsUtf8(std::string_view text);

// Reads JSON (RFC 8259) of a shape that the caller knows: it asks for what must come next, so depth
// is the caller's and a hostile text can neither nest nor grow anything. Errors are
// INVALID_ARGUMENT with the byte offset.
class JsonScanner {
 public:
  // `text` must outlive the scanner.
  explicit JsonScanner(std::string_view text) : text_(text) {}

  // An object; `member` reads the value of each key. Keys may repeat: `member` decides.
  absl::Status Object(absl::FunctionRef<absl::Status(const std::string& key)> member);
  // An array; `element` reads each of its values.
  absl::Status Array(absl::FunctionRef<absl::Status()> element);
  // A string, decoded to valid UTF-8.
  absl::StatusOr<std::string> String();
  // Any number, as its text.
  absl::StatusOr<std::string> Number();
  // `word`: true, false or null.
  absl::Status Literal(std::string_view word);
  // A whole number from 0 to 2^63 - 1, without exponent.
  absl::StatusOr<int64_t> NonNegativeInteger();
  // The character that the next value begins with; 0 at the end.
  char Peek();
  // Nothing but white space is left.
  absl::Status End();

  // An error at the current position.
  absl::Status Error(const std::string& what) const;

 private:
  void SkipSpace();
  // Skips white space, then takes `c` if it is next.
  bool Take(char c);
  absl::Status List(char open, char close, absl::FunctionRef<absl::Status()> item);
  absl::StatusOr<uint32_t> HexDigits4();
  absl::Status AppendEscape(std::string& value);

  std::string_view text_;
  size_t position_ = 0;
};

// `text` as a JSON string with its quotes. Bytes from 0x20 on pass as they are.
std::string JsonQuote(std::string_view text);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_FORMATS_JSON_SCANNER_H_
