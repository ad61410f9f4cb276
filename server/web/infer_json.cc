#include "server/web/infer_json.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/formats/json_value.h"

namespace lockstep {
namespace {

using Object = JsonValue::Object;
using Array = JsonValue::Array;

const JsonValue* Find(const Object& object, absl::string_view key) {
  const auto found = object.find(std::string_view(key.data(), key.size()));
  return found == object.end() ? nullptr : &found->second;
}

absl::Status Wrong(absl::string_view path, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": must be ", wanted));
}

absl::StatusOr<int64_t> ReadInteger(const JsonValue* value, absl::string_view path) {
  const auto* number = value == nullptr ? nullptr : value->As<JsonValue::Number>();
  int64_t integer;
  if (number == nullptr || !absl::SimpleAtoi(number->text, &integer)) {
    return Wrong(path, "a whole number");
  }
  return integer;
}

absl::Status ReadData(const JsonValue& data, absl::string_view path,
                      inference::InferTensorContents* contents) {
  if (const auto* array = data.As<Array>()) {
    for (const JsonValue& element : *array) {
      if (absl::Status read = ReadData(element, path, contents); !read.ok()) return read;
    }
    return absl::OkStatus();
  }
  const auto* number = data.As<JsonValue::Number>();
  float value;
  if (number == nullptr || !absl::SimpleAtof(number->text, &value)) {
    return Wrong(path, "an array of numbers, nested or not");
  }
  contents->add_fp32_contents(value);
  return absl::OkStatus();
}

absl::Status ReadInput(const JsonValue& json, const std::string& path,
                       inference::ModelInferRequest::InferInputTensor* input) {
  const auto* object = json.As<Object>();
  if (object == nullptr) return Wrong(path, "an object");
  for (const auto& [key, field] : {std::pair{"name", input->mutable_name()},
                                   std::pair{"datatype", input->mutable_datatype()}}) {
    const JsonValue* value = Find(*object, key);
    const auto* text = value == nullptr ? nullptr : value->As<std::string>();
    if (text == nullptr) return Wrong(absl::StrCat(path, ".", key), "a string");
    *field = *text;
  }
  const JsonValue* shape = Find(*object, "shape");
  const auto* sizes = shape == nullptr ? nullptr : shape->As<Array>();
  if (sizes == nullptr) return Wrong(absl::StrCat(path, ".shape"), "an array");
  for (const JsonValue& size : *sizes) {
    absl::StatusOr<int64_t> integer = ReadInteger(&size, absl::StrCat(path, ".shape"));
    if (!integer.ok()) return integer.status();
    input->add_shape(*integer);
  }
  const JsonValue* data = Find(*object, "data");
  if (data == nullptr) return Wrong(absl::StrCat(path, ".data"), "an array of numbers");
  return ReadData(*data, absl::StrCat(path, ".data"), input->mutable_contents());
}

}  // namespace

absl::StatusOr<inference::ModelInferRequest> ReadInferJson(absl::string_view json) {
  absl::StatusOr<JsonValue> value = JsonValue::Parse({json.data(), json.size()});
  if (!value.ok()) return value.status();
  const auto* object = value->As<Object>();
  if (object == nullptr) return Wrong("the body", "an object");
  inference::ModelInferRequest request;
  if (const JsonValue* version = Find(*object, "version")) {
    absl::StatusOr<int64_t> number = ReadInteger(version, "version");
    if (!number.ok()) return number.status();
    request.set_model_version(absl::StrCat(*number));
  }
  const JsonValue* inputs = Find(*object, "inputs");
  const auto* array = inputs == nullptr ? nullptr : inputs->As<Array>();
  if (array == nullptr) return Wrong("inputs", "an array");
  for (size_t i = 0; i < array->size(); ++i) {
    absl::Status read =
        ReadInput((*array)[i], absl::StrCat("inputs[", i, "]"), request.add_inputs());
    if (!read.ok()) return read;
  }
  return request;
}

std::string WriteInferJson(const inference::ModelInferResponse& response) {
  Array outputs;
  for (const auto& output : response.outputs()) {
    Array shape;
    for (const int64_t size : output.shape()) shape.push_back(JsonValue::Integer(size));
    Array data;
    for (const float value : output.contents().fp32_contents()) {
      char text[32];
      const char* end = std::to_chars(text, text + sizeof text, value).ptr;
      // JSON has no NaN and no infinity.
      data.push_back(std::isfinite(value) ? JsonValue{JsonValue::Number{
                                                std::string(text, static_cast<size_t>(end - text))}}
                                          : JsonValue{nullptr});
    }
    outputs.push_back({Object{{"name", JsonValue::Text(output.name())},
                              {"datatype", JsonValue::Text(output.datatype())},
                              {"shape", {std::move(shape)}},
                              {"data", {std::move(data)}}}});
  }
  return JsonValue{Object{{"model_name", JsonValue::Text(response.model_name())},
                          {"model_version", JsonValue::Text(response.model_version())},
                          {"outputs", {std::move(outputs)}}}}
      .ToString();
}

}  // namespace lockstep
