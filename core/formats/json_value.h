#ifndef LOCKSTEP_CORE_FORMATS_JSON_VALUE_H_
#define LOCKSTEP_CORE_FORMATS_JSON_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// A JSON value (RFC 8259) as a tree, for texts whose members the reader cannot know beforehand.
// Numbers keep their text, so no digit is lost on the way.
struct JsonValue {
  struct Number {
    std::string text;
  };
  using Array = std::vector<JsonValue>;
  using Object = std::map<std::string, JsonValue, std::less<>>;

  // Objects and arrays may lie so deep within each other.
  static constexpr int kMaxDepth = 64;

  // INVALID_ARGUMENT with the byte offset: no JSON, a member named twice, or nested too deep.
  // Memory is at most about a hundred times the text's size; the caller bounds that.
  static absl::StatusOr<JsonValue> Parse(std::string_view text);

  // The value without line breaks.
  std::string ToString() const;

  static JsonValue Text(std::string text) { return {std::move(text)}; }
  static JsonValue Integer(int64_t value) { return {Number{std::to_string(value)}}; }

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value);
  }
  bool IsNull() const { return As<std::nullptr_t>() != nullptr; }

  std::variant<std::nullptr_t, bool, Number, std::string, Array, Object> value;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_FORMATS_JSON_VALUE_H_
