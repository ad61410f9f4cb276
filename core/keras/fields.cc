#include "core/keras/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.h"

namespace lockstep {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Activations by the names that Keras writes; ours are the same, and "gelu_tanh".
constexpr absl::string_view kActivations[] = {
    "linear", "relu",    "relu6",        "leaky_relu", "elu",      "selu",   "gelu",
    "silu",   "sigmoid", "hard_sigmoid", "tanh",       "softplus", "softmax"};

bool IsKnownActivation(absl::string_view name) {
  return std::find(std::begin(kActivations), std::end(kActivations), name) !=
         std::end(kActivations);
}

// Fields that only our messages have.
bool IsOurs(const FieldDescriptor& field) {
  const std::string& name = field.name();
  return name == "explicit_padding" || name == "convention" || name == "cumulative_average" ||
         name == "group_shards";
}

bool IsWrittenByName(const FieldDescriptor& field) {
  return field.real_containing_oneof() == nullptr && !IsOurs(field);
}

// "HeNormal" is he_normal; names that are already so stay.
std::string SnakeCase(absl::string_view name) {
  std::string snake;
  for (size_t i = 0; i < name.size(); ++i) {
    if (absl::ascii_isupper(name[i]) && i > 0) snake += '_';
    snake += absl::ascii_tolower(name[i]);
  }
  return snake;
}

std::string CamelCase(absl::string_view name) {
  std::string camel;
  bool upper = true;
  for (char c : name) {
    if (c != '_') camel += upper ? absl::ascii_toupper(c) : c;
    upper = c == '_';
  }
  return camel;
}

double ToDouble(const JsonValue::Number& number) {
  double value = 0;
  std::ignore = absl::SimpleAtod(number.text, &value);  // a JSON number is one; inf if too large
  return value;
}

// A whole number, also written as 3.0.
template <typename T>
T ToInteger(KerasConversion& conversion, const std::string& path, const JsonValue::Number& number) {
  T value = 0;
  if (absl::SimpleAtoi(number.text, &value)) return value;
  const double real = ToDouble(number);
  if (real == std::floor(real) && std::abs(real) < 9e15 &&
      real >= static_cast<double>(std::numeric_limits<T>::min())) {
    return static_cast<T>(real);
  }
  conversion.Fail(path, absl::StrCat("must be a whole number", std::is_signed_v<T> ? "" : " >= 0",
                                     ", got ", number.text));
  return value;
}

// The one number for a field of our message: equal ones may stand in a list, for a whole number a
// list of one (Conv1D's kernel_size).
const JsonValue::Number* OneNumber(KerasConversion& conversion, const std::string& path,
                                   const std::vector<JsonValue::Number>& numbers, bool whole) {
  const bool one = !numbers.empty() && (!whole || numbers.size() == 1) &&
                   std::all_of(numbers.begin(), numbers.end(), [&](const JsonValue::Number& n) {
                     return ToDouble(n) == ToDouble(numbers[0]);
                   });
  if (one) return &numbers[0];
  conversion.Fail(path, absl::StrCat("must be one number, got ", numbers.size()));
  return nullptr;
}

std::string ReadActivation(KerasConversion& conversion, const std::string& path,
                           const JsonValue& value) {
  std::string name;
  if (const auto* text = value.As<std::string>()) {
    name = *text;
  } else {
    // A function is an object in some versions, as is a layer in a function's place.
    ObjectReader object(conversion, path, value);
    const std::string class_name = object.Text("class_name");
    if (class_name != "function") {
      conversion.Fail(path, absl::StrCat("the layer ", class_name,
                                         " cannot be an activation; give it a place of its own"));
      return "";
    }
    name = object.Text("config");
  }
  if (name == "swish") name = "silu";
  if (!IsKnownActivation(name)) {
    conversion.Fail(path, absl::StrCat("must be one of ", absl::StrJoin(kActivations, ", "),
                                       "; got \"", name, "\""));
  }
  if (name == "hard_sigmoid" && conversion.keras2) {
    conversion.Fail(path,
                    "hard_sigmoid of Keras 2, clip(0.2 * x + 0.5, 0, 1), is not supported; that "
                    "of Keras 3 is another function");
  }
  return name;
}

// The class of an initializer or regularizer, and its config if there is one.
std::pair<std::string, const JsonValue*> ReadClass(KerasConversion& conversion,
                                                   const std::string& path,
                                                   const JsonValue& value) {
  if (const auto* text = value.As<std::string>()) return {*text, nullptr};
  ObjectReader object(conversion, path, value);
  const std::string class_name = object.Text("class_name");
  const JsonValue* config = object.Take("config");
  object.Take("module");
  object.Take("registered_name");
  object.Take("shared_object_id");
  object.Finish();
  return {class_name, config};
}

void ReadInitializer(KerasConversion& conversion, const std::string& path, const JsonValue& value,
                     Message& message) {
  const auto [class_name, config] = ReadClass(conversion, path, value);
  std::string name = SnakeCase(class_name);
  // Older names.
  name = std::string(absl::StripSuffix(name, "_initializer"));
  if (name == "uniform" || name == "normal") name = "random_" + name;

  const google::protobuf::OneofDescriptor& kinds = *message.GetDescriptor()->oneof_decl(0);
  const FieldDescriptor* kind = message.GetDescriptor()->FindFieldByName(name);
  if (kind == nullptr || kind->real_containing_oneof() != &kinds) {
    std::string known;
    for (int i = 0; i < kinds.field_count(); ++i) {
      absl::StrAppend(&known, i == 0 ? "" : ", ", CamelCase(kinds.field(i)->name()));
    }
    conversion.Fail(path, absl::StrCat("must be one of ", known, "; got \"", class_name, "\""));
    return;
  }
  Message& parameters = *message.GetReflection()->MutableMessage(&message, kind);
  if (config == nullptr) return;
  ObjectReader reader(conversion, path + ".config", *config);
  ReadFields(reader, parameters);
  ReadFields(reader, message);  // the seed
  reader.Finish();
}

void ReadRegularizer(KerasConversion& conversion, const std::string& path, const JsonValue& value,
                     v1::Regularizer& regularizer) {
  constexpr float kDefault = 0.01f;
  const auto [class_name, config] = ReadClass(conversion, path, value);
  const std::string name = absl::AsciiStrToLower(class_name);
  if (name == "l1") {
    regularizer.set_l1(kDefault);
  } else if (name == "l2") {
    regularizer.set_l2(kDefault);
  } else if (name != "l1l2") {
    conversion.Fail(path, absl::StrCat("must be L1, L2 or L1L2; got \"", class_name, "\""));
  }
  if (config == nullptr) return;
  ObjectReader reader(conversion, path + ".config", *config);
  ReadFields(reader, regularizer);
  reader.Finish();
}

void ReadMessage(KerasConversion& conversion, const std::string& path, const JsonValue& value,
                 Message& message) {
  if (auto* regularizer = dynamic_cast<v1::Regularizer*>(&message)) {
    ReadRegularizer(conversion, path, value, *regularizer);
  } else {
    ReadInitializer(conversion, path, value, message);
  }
}

void ReadField(ObjectReader& config, const FieldDescriptor& field, const JsonValue& value,
               Message& message) {
  KerasConversion& conversion = config.conversion();
  const std::string path = config.Path(field.name());
  const Reflection& reflection = *message.GetReflection();
  const auto numbers = [&] { return ReadNumbers(conversion, path, value); };
  const auto number = [&](bool whole) {
    const std::vector<JsonValue::Number> all = numbers();
    const JsonValue::Number* one = OneNumber(conversion, path, all, whole);
    return one == nullptr ? JsonValue::Number{"0"} : *one;
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      if (!field.is_repeated()) {
        reflection.SetInt64(&message, &field, ToInteger<int64_t>(conversion, path, number(true)));
        break;
      }
      for (const JsonValue::Number& n : numbers()) {
        reflection.AddInt64(&message, &field, ToInteger<int64_t>(conversion, path, n));
      }
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      reflection.SetUInt64(&message, &field, ToInteger<uint64_t>(conversion, path, number(true)));
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
      if (!field.is_repeated()) {
        reflection.SetFloat(&message, &field, static_cast<float>(ToDouble(number(false))));
        break;
      }
      for (const JsonValue::Number& n : numbers()) {
        reflection.AddFloat(&message, &field, static_cast<float>(ToDouble(n)));
      }
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      reflection.SetDouble(&message, &field, ToDouble(number(false)));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection.SetBool(&message, &field, config.Flag(field.name(), false));
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.SetString(&message, &field,
                           field.name() == "activation" ? ReadActivation(conversion, path, value)
                                                        : config.Text(field.name()));
      break;
    default:
      ReadMessage(conversion, path, value, *reflection.MutableMessage(&message, &field));
  }
}

// The shortest decimal number that reads back as the same.
template <typename T>
JsonValue ToNumber(T value) {
  char text[32];
  const auto [end, error] = std::to_chars(std::begin(text), std::end(text), value);
  return {JsonValue::Number{std::string(std::begin(text), end)}};
}

JsonValue InitializerToKeras(const Message& initializer) {
  const Reflection& reflection = *initializer.GetReflection();
  const FieldDescriptor* kind =
      reflection.GetOneofFieldDescriptor(initializer, initializer.GetDescriptor()->oneof_decl(0));
  if (kind == nullptr) return {};
  JsonValue::Object config;
  // Neither has an activation, the only thing that cannot be written.
  WriteFields(reflection.GetMessage(initializer, kind), "", config).IgnoreError();
  WriteFields(initializer, "", config).IgnoreError();
  return KerasObject("keras.initializers", CamelCase(kind->name()), std::move(config));
}

JsonValue RegularizerToKeras(const v1::Regularizer& regularizer) {
  return KerasObject("keras.regularizers", "L1L2",
                     {{"l1", ToNumber(regularizer.l1())}, {"l2", ToNumber(regularizer.l2())}});
}

// The value of a single field, or of element `i` of a repeated one.
JsonValue ToJson(const Message& message, const FieldDescriptor& field, int i) {
  const Reflection& reflection = *message.GetReflection();
  const bool repeated = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return ToNumber(repeated ? reflection.GetRepeatedInt64(message, &field, i)
                               : reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return ToNumber(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return ToNumber(repeated ? reflection.GetRepeatedFloat(message, &field, i)
                               : reflection.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ToNumber(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return {reflection.GetBool(message, &field)};
    case FieldDescriptor::CPPTYPE_STRING:
      return {reflection.GetString(message, &field)};
    default: {
      const Message& value = reflection.GetMessage(message, &field);
      const auto* regularizer = dynamic_cast<const v1::Regularizer*>(&value);
      return regularizer != nullptr ? RegularizerToKeras(*regularizer) : InitializerToKeras(value);
    }
  }
}

}  // namespace

void ReadFields(ObjectReader& config, Message& message) {
  const Descriptor& descriptor = *message.GetDescriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (!IsWrittenByName(field)) continue;
    const JsonValue* value = config.Take(field.name());
    if (value != nullptr) ReadField(config, field, *value, message);
  }
}

std::vector<JsonValue::Number> ReadNumbers(KerasConversion& conversion, const std::string& path,
                                           const JsonValue& value) {
  std::vector<JsonValue::Number> numbers;
  if (const auto* number = value.As<JsonValue::Number>()) {
    numbers.push_back(*number);
  } else if (const auto* list = value.As<JsonValue::Array>()) {
    for (const JsonValue& element : *list) {
      for (JsonValue::Number& n : ReadNumbers(conversion, path, element)) {
        numbers.push_back(std::move(n));
      }
    }
  } else {
    conversion.Fail(path, absl::StrCat("must be a number or a list of them, got ", Shown(value)));
  }
  return numbers;
}

absl::Status WriteFields(const Message& message, const std::string& path,
                         JsonValue::Object& config) {
  const Descriptor& descriptor = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (!IsWrittenByName(field)) continue;
    if (field.is_repeated()) {
      JsonValue::Array list;
      for (int k = 0; k < reflection.FieldSize(message, &field); ++k) {
        list.push_back(ToJson(message, field, k));
      }
      if (!list.empty()) config[field.name()] = {std::move(list)};
      continue;
    }
    if (field.has_presence() && !reflection.HasField(message, &field)) continue;
    JsonValue value = ToJson(message, field, 0);
    if (const auto* text = value.As<std::string>()) {
      if (text->empty()) continue;
      if (field.name() == "activation" && !IsKnownActivation(*text)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ".activation: Keras has no name for \"", *text, "\""));
      }
    }
    config[field.name()] = std::move(value);
  }
  return absl::OkStatus();
}

JsonValue KerasObject(absl::string_view module, absl::string_view class_name,
                      JsonValue::Object config) {
  JsonValue::Object object;
  object["module"] = JsonValue::Text(std::string(module));
  object["class_name"] = JsonValue::Text(std::string(class_name));
  object["config"] = {std::move(config)};
  object["registered_name"] = {};
  return {std::move(object)};
}

}  // namespace lockstep
