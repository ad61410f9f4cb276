#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/keras/fields.h"
#include "core/keras/keras_model.h"
#include "core/keras/layer_classes.h"
#include "core/keras/object_reader.h"

namespace lockstep {
namespace {

// As many as a network may have.
constexpr size_t kMaxLayers = 4096;

// One entry of a model's list of layers.
struct KerasLayer {
  std::string path;
  bool is_input = false;
  v1::Layer spec;                    // of an input only the name
  std::vector<int64_t> input_shape;  // of a sample, if the layer says so
  std::vector<std::string> sources;  // the layers that it reads, of Functional models
};

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

// A shape with the batch: [null, 28, 28, 1].
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

// Refuses what is not Keras' own: a registered object, or one of another module.
void CheckOrigin(ObjectReader& object, const std::string& class_name) {
  const std::string registered = object.Text("registered_name");
  const std::string module = object.Text("module");
  const bool ours = registered.empty() || registered == class_name;
  const bool keras = module.empty() || absl::StartsWith(module, "keras") ||
                     absl::StartsWith(module, "tf_keras") ||
                     absl::StartsWith(module, "tensorflow.");
  if (ours && keras) return;
  object.conversion().Fail(object.Path("class_name"),
                           absl::StrCat("custom objects are not supported, got \"", class_name,
                                        "\" of ", ours ? module : registered));
}

// The names of the layers that tensors come from: "__keras_tensor__" objects of Keras 3,
// ["name", node, tensor, {arguments}] before it, in whatever lists.
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
    SourceReader(object.conversion(), layer.sources).Read(path, *nodes);
  }
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

std::vector<KerasLayer> ReadLayers(KerasConversion& conversion, const std::string& path,
                                   const JsonValue& value) {
  std::vector<KerasLayer> layers;
  const auto* list = value.As<JsonValue::Array>();
  if (list == nullptr || list->empty() || list->size() > kMaxLayers) {
    conversion.Fail(path,
                    absl::StrCat("must be a list of 1 to ", kMaxLayers, " layers, got ",
                                 list == nullptr ? Shown(value) : absl::StrCat(list->size())));
    return layers;
  }
  for (size_t i = 0; i < list->size() && conversion.status.ok(); ++i) {
    layers.push_back(ReadLayer(conversion, absl::StrCat(path, "[", i, "]"), (*list)[i]));
  }
  return layers;
}

void AddInput(const std::string& name, const std::vector<int64_t>& shape, v1::ModelSpec& spec) {
  v1::Input& input = *spec.add_inputs();
  input.set_name(name);
  input.mutable_shape()->Assign(shape.begin(), shape.end());
}

// `built_shape`: of the input, as the model's own build said.
void ReadSequential(KerasConversion& conversion, const std::string& path,
                    std::vector<KerasLayer> layers, const std::vector<int64_t>& built_shape,
                    v1::ModelSpec& spec) {
  if (layers.empty()) return;
  const KerasLayer& first = layers[0];
  const std::vector<int64_t>& shape = first.input_shape.empty() ? built_shape : first.input_shape;
  if (shape.empty()) {
    conversion.Fail(path,
                    "the model has no input shape; give it an Input layer, or build it before "
                    "to_json()");
  }
  AddInput(first.is_input ? first.spec.name() : first.spec.name() + "_input", shape, spec);
  for (KerasLayer& layer : layers) {
    if (!layer.is_input) {
      *spec.add_layers() = std::move(layer.spec);
    } else if (&layer != &first) {
      conversion.Fail(layer.path, "an input must be the first layer");
    }
  }
}

// Indices into `layers`, each after those that it reads; otherwise in their own order.
std::vector<size_t> Ordered(KerasConversion& conversion, const std::vector<KerasLayer>& layers) {
  std::map<absl::string_view, size_t> by_name;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!by_name.emplace(layers[i].spec.name(), i).second) {
      conversion.Fail(layers[i].path,
                      absl::StrCat("a second layer of the name \"", layers[i].spec.name(), "\""));
    }
  }
  std::vector<std::vector<size_t>> readers(layers.size());
  std::vector<size_t> missing(layers.size());
  std::set<size_t> ready;
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const std::string& source : layers[i].sources) {
      const auto found = by_name.find(source);
      if (found == by_name.end()) {
        conversion.Fail(layers[i].path + ".inbound_nodes",
                        absl::StrCat("there is no layer \"", source, "\""));
        return {};
      }
      readers[found->second].push_back(i);
    }
    missing[i] = layers[i].sources.size();
    if (missing[i] > 0) continue;
    if (!layers[i].is_input) {
      conversion.Fail(layers[i].path + ".inbound_nodes", "the layer reads nothing");
    }
    ready.insert(i);
  }
  std::vector<size_t> order;
  while (!ready.empty()) {
    const size_t i = *ready.begin();
    ready.erase(ready.begin());
    order.push_back(i);
    for (size_t reader : readers[i]) {
      if (--missing[reader] == 0) ready.insert(reader);
    }
  }
  const auto left =
      std::find_if(missing.begin(), missing.end(), [](size_t count) { return count > 0; });
  if (left != missing.end()) {
    conversion.Fail(layers[left - missing.begin()].path + ".inbound_nodes",
                    "the layer is part of a cycle, or reads one");
  }
  return order;
}

std::vector<std::string> ReadEnds(ObjectReader& config, absl::string_view member) {
  std::vector<std::string> names;
  const JsonValue* value = config.Require(member);
  if (value != nullptr) {
    SourceReader(config.conversion(), names).Read(config.Path(member), *value);
  }
  return names;
}

void ReadFunctional(ObjectReader& config, std::vector<KerasLayer> layers, v1::ModelSpec& spec) {
  KerasConversion& conversion = config.conversion();
  const std::vector<std::string> inputs = ReadEnds(config, "input_layers");
  const std::vector<std::string> outputs = ReadEnds(config, "output_layers");
  if (!conversion.status.ok()) return;
  if (inputs.empty() || outputs.empty()) {
    conversion.Fail(config.Path(inputs.empty() ? "input_layers" : "output_layers"),
                    "must name a layer");
    return;
  }
  for (const std::string& name : inputs) {
    const auto layer = std::find_if(layers.begin(), layers.end(), [&](const KerasLayer& l) {
      return l.is_input && l.spec.name() == name;
    });
    if (layer == layers.end()) {
      conversion.Fail(config.Path("input_layers"),
                      absl::StrCat("there is no InputLayer \"", name, "\""));
      return;
    }
    AddInput(name, layer->input_shape, spec);
  }
  std::string before = inputs[0];  // what a layer reads that says nothing else
  for (size_t i : Ordered(conversion, layers)) {
    KerasLayer& layer = layers[i];
    if (layer.is_input) {
      if (std::find(inputs.begin(), inputs.end(), layer.spec.name()) == inputs.end()) {
        conversion.Fail(layer.path, "the InputLayer is not in input_layers");
      }
      continue;
    }
    if (layer.sources != std::vector<std::string>{before}) {
      layer.spec.mutable_inputs()->Assign(layer.sources.begin(), layer.sources.end());
    }
    before = layer.spec.name();
    *spec.add_layers() = std::move(layer.spec);
  }
  if (outputs != std::vector<std::string>{before}) {
    spec.mutable_outputs()->Assign(outputs.begin(), outputs.end());
  }
}

v1::ModelSpec ReadModel(KerasConversion& conversion, const std::string& path,
                        const JsonValue& json) {
  v1::ModelSpec spec;
  ObjectReader root(conversion, path, json);
  const std::string version = root.Text("keras_version");
  conversion.keras2 = absl::StartsWith(version, "1.") || absl::StartsWith(version, "2.");
  const std::string class_name = root.Text("class_name");
  const bool sequential = class_name == "Sequential";
  if (!sequential && class_name != "Functional" && class_name != "Model") {
    conversion.Fail(root.Path("class_name"),
                    absl::StrCat("must be Sequential or Functional, got \"", class_name, "\""));
  }
  CheckOrigin(root, class_name);
  std::vector<int64_t> built_shape;
  if (const JsonValue* build = root.Take("build_config"); build != nullptr && sequential) {
    ObjectReader reader(conversion, root.Path("build_config"), *build);
    built_shape = ReadInputShape(reader, "input_shape");
  }
  for (const char* member : {"backend", "compile_config", "shared_object_id"}) root.Take(member);
  const JsonValue* members = root.Require("config");
  root.Finish();
  if (members == nullptr) return spec;
  if (members->As<JsonValue::Array>() != nullptr && sequential) {  // before Keras 2.2.3
    ReadSequential(conversion, root.Path("config"),
                   ReadLayers(conversion, root.Path("config"), *members), built_shape, spec);
    return spec;
  }

  ObjectReader config(conversion, root.Path("config"), *members);
  config.Take("name");
  CheckDType(config);
  const bool trainable = config.Flag("trainable", true);
  if (const std::vector<int64_t> shape = ReadInputShape(config, "build_input_shape");
      !shape.empty()) {
    built_shape = shape;
  }
  const JsonValue* list = config.Require("layers");
  if (list == nullptr) return spec;
  std::vector<KerasLayer> layers = ReadLayers(conversion, config.Path("layers"), *list);
  if (!conversion.status.ok()) return spec;
  if (sequential) {
    ReadSequential(conversion, config.Path("layers"), std::move(layers), built_shape, spec);
  } else {
    ReadFunctional(config, std::move(layers), spec);
  }
  config.Finish();
  for (v1::Layer& layer : *spec.mutable_layers()) {
    if (!trainable) layer.set_trainable(false);
  }
  return spec;
}

}  // namespace

absl::StatusOr<v1::ModelSpec> ModelFromKeras(std::string_view json, const std::string& path) {
  const std::string prefix = path.empty() ? "" : path + ": ";
  if (json.size() > kMaxKerasJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(prefix, "the JSON has ", json.size(), " bytes; at most ", kMaxKerasJsonBytes));
  }
  absl::StatusOr<JsonValue> value = JsonValue::Parse(json);
  if (!value.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, value.status().message()));
  }
  KerasConversion conversion;
  v1::ModelSpec spec = ReadModel(conversion, path, *value);
  if (!conversion.status.ok()) return conversion.status;
  return spec;
}

}  // namespace lockstep
