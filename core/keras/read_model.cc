#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/keras/keras_model.h"
#include "core/keras/object_reader.h"
#include "core/keras/read_layer.h"

namespace lockstep {
namespace {

// As many as a network may have.
constexpr size_t kMaxLayers = 4096;

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
    ReadSources(config.conversion(), config.Path(member), *value, names);
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
