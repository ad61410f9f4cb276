#include "server/tensorboard/hyperparameters.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;
using google::protobuf::Value;
using ::tensorboard::hparams::SessionStartInfo;

// Numbers that a double does not hold are told as text.
template <typename Integer>
void SetInteger(Integer integer, Value* value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (std::abs(static_cast<double>(integer)) < kExact) {
    value->set_number_value(static_cast<double>(integer));
  } else {
    value->set_string_value(absl::StrCat(integer));
  }
}

Value SingleValue(const Message& message, const FieldDescriptor* field) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  Value value;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      value.set_bool_value(reflection.GetBool(message, field));
      break;
    case FieldDescriptor::CPPTYPE_INT32:
      SetInteger(reflection.GetInt32(message, field), &value);
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      SetInteger(reflection.GetInt64(message, field), &value);
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      SetInteger(reflection.GetUInt64(message, field), &value);
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
      value.set_number_value(reflection.GetFloat(message, field));
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      value.set_number_value(reflection.GetDouble(message, field));
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      value.set_string_value(reflection.GetString(message, field));
      break;
    default:
      TextFormat::PrintFieldValueToString(message, field, -1, value.mutable_string_value());
  }
  return value;
}

std::string ListText(const Message& message, const FieldDescriptor* field) {
  std::vector<std::string> elements;
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
    std::string& element = elements.emplace_back();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      element = reflection.GetRepeatedString(message, field, i);
    } else {
      TextFormat::PrintFieldValueToString(message, field, i, &element);
    }
  }
  return absl::StrJoin(elements, ", ");
}

// `name` is that of the message; empty: the outermost.
void AddFields(const std::string& name, const Message& message, SessionStartInfo* info) {
  auto& hparams = *info->mutable_hparams();
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->real_containing_oneof() != nullptr) {
      hparams[name].set_string_value(std::string(field->name()));
      AddFields(name, reflection.GetMessage(message, field), info);
      continue;
    }
    const std::string path = absl::StrCat(name, name.empty() ? "" : ".", field->name());
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (is_message && field->is_repeated()) {
      const int count = reflection.FieldSize(message, field);
      for (int i = 0; i < count; ++i) {
        AddFields(count == 1 ? path : absl::StrCat(path, ".", i),
                  reflection.GetRepeatedMessage(message, field, i), info);
      }
    } else if (is_message) {
      AddFields(path, reflection.GetMessage(message, field), info);
    } else if (field->is_repeated()) {
      hparams[path].set_string_value(ListText(message, field));
    } else {
      hparams[path] = SingleValue(message, field);
    }
  }
}

}  // namespace

SessionStartInfo Hyperparameters(const v1::JobSpec& spec) {
  SessionStartInfo info;
  AddFields("", spec.training(), &info);
  auto& hparams = *info.mutable_hparams();
  hparams["dataset"].set_string_value(spec.data().train().dataset());
  for (const auto& [key, value] : spec.labels()) {
    hparams[absl::StrCat("label.", key)].set_string_value(value);
  }
  return info;
}

}  // namespace lockstep
