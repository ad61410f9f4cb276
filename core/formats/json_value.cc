#include "core/formats/json_value.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/formats/json_scanner.h"

namespace lockstep {
namespace {

absl::Status ParseValue(JsonScanner& scanner, int depth, JsonValue& value) {
  const char first = scanner.Peek();
  if ((first == '{' || first == '[') && depth == JsonValue::kMaxDepth) {
    return scanner.Error(absl::StrCat("more than ", JsonValue::kMaxDepth, " levels of nesting"));
  }
  switch (first) {
    case '{': {
      JsonValue::Object& object = value.value.emplace<JsonValue::Object>();
      return scanner.Object([&](const std::string& key) {
        const auto [member, is_new] = object.try_emplace(key);
        if (!is_new) return scanner.Error("a second member of the same name");
        return ParseValue(scanner, depth + 1, member->second);
      });
    }
    case '[': {
      JsonValue::Array& array = value.value.emplace<JsonValue::Array>();
      return scanner.Array([&] { return ParseValue(scanner, depth + 1, array.emplace_back()); });
    }
    case '"': {
      absl::StatusOr<std::string> text = scanner.String();
      if (text.ok()) value.value = *std::move(text);
      return text.status();
    }
    case 't':
      value.value = true;
      return scanner.Literal("true");
    case 'f':
      value.value = false;
      return scanner.Literal("false");
    case 'n':
      return scanner.Literal("null");
    default: {
      absl::StatusOr<std::string> number = scanner.Number();
      if (!number.ok()) return scanner.Error("expected a value");
      value.value = JsonValue::Number{*std::move(number)};
      return absl::OkStatus();
    }
  }
}

void Append(const JsonValue& value, std::string& text) {
  const char* separator = "";
  if (const auto* object = value.As<JsonValue::Object>()) {
    text += '{';
    for (const auto& [name, member] : *object) {
      absl::StrAppend(&text, std::exchange(separator, ", "), JsonQuote(name), ": ");
      Append(member, text);
    }
    text += '}';
  } else if (const auto* array = value.As<JsonValue::Array>()) {
    text += '[';
    for (const JsonValue& element : *array) {
      text += std::exchange(separator, ", ");
      Append(element, text);
    }
    text += ']';
  } else if (const auto* string = value.As<std::string>()) {
    text += JsonQuote(*string);
  } else if (const auto* number = value.As<JsonValue::Number>()) {
    text += number->text;
  } else if (const auto* flag = value.As<bool>()) {
    text += *flag ? "true" : "false";
  } else {
    text += "null";
  }
}

}  // namespace

absl::StatusOr<JsonValue> JsonValue::Parse(std::string_view text) {
  JsonScanner scanner(text);
  JsonValue value;
  if (absl::Status status = ParseValue(scanner, 0, value); !status.ok()) return status;
  if (absl::Status status = scanner.End(); !status.ok()) return status;
  return value;
}

std::string JsonValue::ToString() const {
  std::string text;
  Append(*this, text);
  return text;
}

}  // namespace lockstep
