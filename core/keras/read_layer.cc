#include "core/keras/read_layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/keras/layer_classes.h"

namespace lockstep {
namespace {

// What names of layers may be here is less than what Keras takes.
void CheckLayerName(ObjectReader& config, const std::string& name) {
  const bool valid = !name.empty() && name.size() <= 128 &&
                     std::all_of(name.begin(), name.end(), [](unsigned char c) {
                       return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '/';
                     });
  if (valid) return;
  config.conversion().Fail(config.Path("name"),
                           absl::StrCat("must be 1 to 128 characters of A-Z a-z 0-9 _ - /, got ",
                                        Shown(JsonValue::Text(name))));
}

// ReadSources' recursion.
class SourceReader {
 public:
  SourceReader(KerasConversion& conversion, std::vector<std::string>& sources)
      : conversion_(conversion), sources_(sources) {}

  void Read(const std::string& path, const JsonValue& value) {
    if (const auto* list = value.As<JsonValue::Array>()) {
      if (!list->empty() && list->front().As<std::string>() != nullptr) {
        ReadReference(path, *list);
        return;
      }
      for (size_t i = 0; i < list->size(); ++i) Read(absl::StrCat(path, "[", i, "]"), (*list)[i]);
      return;
    }
    const auto* object = value.As<JsonValue::Object>();
    if (object == nullptr) {
      conversion_.Fail(path, absl::StrCat("must be the output of a layer, got ", Shown(value)));
    } else if (object->contains("class_name")) {
      ReadTensor(path, value);
    } else if (object->contains("args")) {
      ObjectReader node(conversion_, path, value);
      Read(node.Path("args"), *node.Require("args"));
      if (const JsonValue* kwargs = node.Take("kwargs"))
        CheckArguments(node.Path("kwargs"), *kwargs);
      node.Finish();
    } else {
      for (const auto& [name, member] : *object) Read(absl::StrCat(path, ".", name), member);
    }
  }

 private:
  void ReadTensor(const std::string& path, const JsonValue& value) {
    ObjectReader tensor(conversion_, path, value);
    if (const std::string name = tensor.Text("class_name"); name != "__keras_tensor__") {
      conversion_.Fail(path, absl::StrCat("must be the output of a layer, got a ", name));
      return;
    }
    const JsonValue* config = tensor.Require("config");
    if (config == nullptr) return;
    ObjectReader reader(conversion_, tensor.Path("config"), *config);
    const JsonValue* history = reader.Require("keras_history");
    if (history != nullptr) Read(reader.Path("keras_history"), *history);
  }

  void ReadReference(const std::string& path, const JsonValue::Array& reference) {
    sources_.push_back(*reference[0].As<std::string>());
    for (size_t i = 1; i < reference.size() && i < 3; ++i) {
      const auto* number = reference[i].As<JsonValue::Number>();
      if (number != nullptr && number->text == "0") continue;
      conversion_.Fail(absl::StrCat(path, "[", i, "]"),
                       absl::StrCat("must be 0, because a layer is called once and has one "
                                    "output, got ",
                                    Shown(reference[i])));
    }
    if (reference.size() > 3) CheckArguments(absl::StrCat(path, "[3]"), reference[3]);
  }

  // Arguments of a call that are not tensors: only ones that say nothing.
  void CheckArguments(const std::string& path, const JsonValue& arguments) {
    ObjectReader(conversion_, path, arguments).Finish();
  }

  KerasConversion& conversion_;
  std::vector<std::string>& sources_;
};

const LayerClass* FindClass(ObjectReader& object, const std::string& name) {
  std::string known;
  for (const LayerClass& layer_class : LayerClasses()) {
    if (layer_class.name == name) return &layer_class;
    absl::StrAppend(&known, ", ", layer_class.name);
  }
  const bool nested = name == "Sequential" || name == "Functional" || name == "Model";
  object.conversion().Fail(
      object.Path("class_name"),
      nested ? absl::StrCat("a ", name,
                            " model within a model is not supported; use its layers themselves")
             : absl::StrCat("must be one of InputLayer", known, "; got \"", name, "\""));
  return nullptr;
}

void ReadInbound(ObjectReader& object, KerasLayer& layer) {
  const JsonValue* nodes = object.Take("inbound_nodes");
  if (nodes == nullptr) return;
  const auto* list = nodes->As<JsonValue::Array>();
  const std::string path = object.Path("inbound_nodes");
  if (list == nullptr) {
    object.conversion().Fail(path, absl::StrCat("must be a list, got ", Shown(*nodes)));
  } else if (list->size() > 1) {
    object.conversion().Fail(path,
                             absl::StrCat("a layer that is called ", list->size(),
                                          " times is not supported; its weights would be shared"));
  } else {
    ReadSources(object.conversion(), path, *nodes, layer.sources);
  }
}

}  // namespace

void CheckDType(ObjectReader& config) {
  const JsonValue* dtype = config.Take("dtype");
  if (dtype == nullptr) return;
  std::string path = config.Path("dtype");
  const JsonValue* name = dtype;
  if (const auto* policy = dtype->As<JsonValue::Object>()) {
    const auto policy_config = policy->find("config");
    if (policy_config != policy->end()) {
      ObjectReader reader(config.conversion(), path + ".config", policy_config->second);
      name = reader.Require("name");
      path = reader.Path("name");
    }
  }
  if (name == nullptr) return;
  if (const auto* text = name->As<std::string>(); text != nullptr && *text == "float32") return;
  config.conversion().Fail(path, absl::StrCat("must be \"float32\", got ", Shown(*name)));
}

std::vector<int64_t> ReadInputShape(ObjectReader& config, absl::string_view member) {
  const JsonValue* value = config.Take(member);
  if (value == nullptr) return {};
  std::vector<int64_t> shape;
  const auto* dims = value->As<JsonValue::Array>();
  for (size_t i = 1; dims != nullptr && i < dims->size(); ++i) {
    const auto* number = (*dims)[i].As<JsonValue::Number>();
    int64_t dim = 0;
    if (number == nullptr || !absl::SimpleAtoi(number->text, &dim)) {
      shape.clear();
      break;
    }
    shape.push_back(dim);
  }
  if (shape.empty()) {
    config.conversion().Fail(
        config.Path(member),
        absl::StrCat("must be the batch and fixed dimensions, got ", Shown(*value)));
  }
  return shape;
}

void CheckOrigin(ObjectReader& object, const std::string& class_name) {
  const std::string registered = object.Text("registered_name");
  const std::string module = object.Text("module");
  const bool ours = registered.empty() || registered == class_name;
  const bool keras = module.empty() || absl::StartsWith(module, "keras") ||
                     absl::StartsWith(module, "tf_keras") ||
                     absl::StartsWith(module, "tensorflow.");
  // Keras' functions on tensors bear the names of layers, but only these two are the same.
  if (absl::StrContains(module, ".ops.") && class_name != "Add" && class_name != "Multiply") {
    object.conversion().Fail(object.Path("class_name"),
                             absl::StrCat("the function ", class_name, " of ", module,
                                          " is not supported; use a layer"));
  }
  if (ours && keras) return;
  object.conversion().Fail(object.Path("class_name"),
                           absl::StrCat("custom objects are not supported, got \"", class_name,
                                        "\" of ", ours ? module : registered));
}

void ReadSources(KerasConversion& conversion, const std::string& path, const JsonValue& value,
                 std::vector<std::string>& sources) {
  SourceReader(conversion, sources).Read(path, value);
}

KerasLayer ReadLayer(KerasConversion& conversion, const std::string& path, const JsonValue& value) {
  KerasLayer layer{.path = path, .spec = {}, .input_shape = {}, .sources = {}};
  ObjectReader object(conversion, path, value);
  const std::string class_name = object.Text("class_name");
  CheckOrigin(object, class_name);
  ReadInbound(object, layer);
  const std::string name = object.Text("name");
  object.Take("build_config");    // shapes, which we infer
  object.Take("compile_config");  // of a model as a layer
  object.Take("shared_object_id");
  const JsonValue* members = object.Require("config");
  object.Finish();
  if (members == nullptr) return layer;

  ObjectReader config(conversion, object.Path("config"), *members);
  layer.spec.set_name(config.Text("name", name));
  CheckLayerName(config, layer.spec.name());
  CheckDType(config);
  for (const char* member : {"batch_shape", "batch_input_shape"}) {
    std::vector<int64_t> shape = ReadInputShape(config, member);
    if (!shape.empty()) layer.input_shape = std::move(shape);
  }
  if (!config.Flag("trainable", true)) layer.spec.set_trainable(false);
  layer.is_input = class_name == "InputLayer";
  if (!layer.is_input) {
    const LayerClass* layer_class = FindClass(object, class_name);
    if (layer_class == nullptr) return layer;
    ReadKind(*layer_class, config, layer.spec);
  } else if (layer.input_shape.empty()) {
    conversion.Fail(config.Path("batch_shape"), "is required");
  }
  config.Finish();
  return layer;
}

}  // namespace lockstep
