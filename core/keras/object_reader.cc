#include "core/keras/object_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

// Members of many layers that may be written down with this value and no other.
struct FixedMember {
  absl::string_view name;
  absl::string_view value;  // JSON
};
constexpr FixedMember kFixedMembers[] = {
    {"data_format", "\"channels_last\""},
    {"axis", "-1"},               // of GroupNormalization and Softmax
    {"dtype", "\"float32\""},     // of old initializers
    {"fused", "true"},            // of old BatchNormalization
    {"renorm_momentum", "0.99"},  // used with renorm only
    {"synchronized", "true"},     // ours always is
    {"threshold", "0"},           // of ReLU
};

// Numbers by value: 0 is 0.0. A list of one is its element.
bool Same(const JsonValue& value, absl::string_view json) {
  if (const auto* list = value.As<JsonValue::Array>(); list != nullptr && list->size() == 1) {
    return Same(list->front(), json);
  }
  const auto* number = value.As<JsonValue::Number>();
  if (number == nullptr) return value.ToString() == json;
  double a, b;
  return absl::SimpleAtod(number->text, &a) && absl::SimpleAtod(json, &b) && a == b;
}

}  // namespace

void KerasConversion::Fail(absl::string_view path, absl::string_view problem) {
  if (!status.ok()) return;
  status =
      absl::InvalidArgumentError(absl::StrCat(path.empty() ? "the JSON" : path, ": ", problem));
}

ObjectReader::ObjectReader(KerasConversion& conversion, std::string path, const JsonValue& object)
    : conversion_(conversion), path_(std::move(path)), members_(object.As<JsonValue::Object>()) {
  if (members_ != nullptr) return;
  static const JsonValue::Object kNothing;
  members_ = &kNothing;
  conversion_.Fail(path_, absl::StrCat("must be an object, got ", Shown(object)));
}

std::string ObjectReader::Path(absl::string_view member) const {
  return path_.empty() ? std::string(member) : absl::StrCat(path_, ".", member);
}

bool ObjectReader::Has(absl::string_view member) const {
  return members_->find(member) != members_->end();
}

const JsonValue* ObjectReader::Take(absl::string_view member) {
  const auto found = members_->find(member);
  if (found == members_->end()) return nullptr;
  taken_.insert(found->first);
  return found->second.IsNull() ? nullptr : &found->second;
}

const JsonValue* ObjectReader::Require(absl::string_view member) {
  const JsonValue* value = Take(member);
  if (value == nullptr) conversion_.Fail(Path(member), "is required");
  return value;
}

std::string ObjectReader::Text(absl::string_view member, absl::string_view fallback) {
  const JsonValue* value = Take(member);
  if (value == nullptr) return std::string(fallback);
  if (const auto* text = value->As<std::string>()) return *text;
  conversion_.Fail(Path(member), absl::StrCat("must be a string, got ", Shown(*value)));
  return std::string(fallback);
}

bool ObjectReader::Flag(absl::string_view member, bool fallback) {
  const JsonValue* value = Take(member);
  if (value == nullptr) return fallback;
  if (const bool* flag = value->As<bool>()) return *flag;
  conversion_.Fail(Path(member), absl::StrCat("must be true or false, got ", Shown(*value)));
  return fallback;
}

void ObjectReader::Finish() {
  for (const auto& [name, value] : *members_) {
    const bool* flag = value.As<bool>();
    if (value.IsNull() || (flag != nullptr && !*flag) || taken_.contains(name)) continue;
    const auto fixed =
        std::find_if(std::begin(kFixedMembers), std::end(kFixedMembers),
                     [&name = name](const FixedMember& member) { return member.name == name; });
    if (fixed == std::end(kFixedMembers)) {
      conversion_.Fail(Path(name), absl::StrCat(Shown(value), " is not supported"));
    } else if (!Same(value, fixed->value)) {
      conversion_.Fail(Path(name), absl::StrCat("must be ", fixed->value, ", got ", Shown(value)));
    }
  }
}

std::string Shown(const JsonValue& value) {
  constexpr size_t kLongest = 60;
  const std::string text = value.ToString();
  return text.size() <= kLongest ? text : absl::StrCat(text.substr(0, kLongest), "...");
}

}  // namespace lockstep
