#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/keras/fields.h"
#include "core/keras/keras_model.h"
#include "core/keras/layer_classes.h"
#include "google/protobuf/descriptor.h"

namespace lockstep {
namespace {

// [top, bottom, left, right] as [[top, bottom], [left, right]].
JsonValue Nested(const JsonValue::Array& padding) {
  JsonValue::Array nested;
  for (int i : {0, 2}) {
    nested.emplace_back().value = JsonValue::Array(padding.begin() + i, padding.begin() + i + 2);
  }
  return {std::move(nested)};
}

// Keras' class for a layer's kind; nullptr if it has none.
const LayerClass* ClassOf(const v1::Layer& layer) {
  const google::protobuf::FieldDescriptor* kind = layer.GetReflection()->GetOneofFieldDescriptor(
      layer, layer.GetDescriptor()->FindOneofByName("kind"));
  if (kind == nullptr) return nullptr;
  const std::span<const LayerClass> classes = LayerClasses();
  const auto found = std::find_if(classes.begin(), classes.end(),
                                  [&](const LayerClass& c) { return c.field == kind->name(); });
  return found == classes.end() ? nullptr : &*found;
}

// The class of an activation that Activation's name cannot describe.
absl::string_view ActivationClass(const v1::Activation& spec) {
  if (spec.activation() == "leaky_relu") return "LeakyReLU";
  if (spec.activation() == "elu") return "ELU";
  const bool plain = spec.negative_slope() == 0 && !spec.has_max_value();
  return spec.activation() == "relu" && !plain ? "ReLU" : "Activation";
}

// The graph, layer by layer.
class ModelWriter {
 public:
  explicit ModelWriter(const v1::ModelSpec& spec) : spec_(spec) {}

  absl::StatusOr<std::string> Write() {
    if (spec_.inputs().empty() || spec_.layers().empty()) {
      return absl::InvalidArgumentError("model: has no inputs or no layers");
    }
    JsonValue::Array inputs;
    for (const v1::Input& input : spec_.inputs()) {
      if (absl::Status status = AddInput(input); !status.ok()) return status;
      inputs.push_back(Reference(names_[input.name()].keras));
    }
    std::string before = spec_.inputs(0).name();
    for (int i = 0; i < spec_.layers_size(); ++i) {
      const v1::Layer& layer = spec_.layers(i);
      absl::Status status = AddLayer(layer, before, absl::StrCat("model.layers[", i, "]"));
      if (!status.ok()) return status;
      before = layer.name();
    }
    JsonValue::Array outputs;
    for (const std::string& name : spec_.outputs()) outputs.push_back(Reference(Tensor(name)));
    if (outputs.empty()) outputs.push_back(Reference(Tensor(before)));

    JsonValue::Object config;
    config["name"] = JsonValue::Text("model");
    config["trainable"] = {true};
    config["layers"] = {std::move(layers_)};
    config["input_layers"] = {std::move(inputs)};
    config["output_layers"] = {std::move(outputs)};
    return KerasObject("keras.src.models.functional", "Functional", std::move(config)).ToString();
  }

 private:
  // A layer or input of the spec, by its name there.
  struct Names {
    std::string keras;   // of its layer
    std::string tensor;  // of the layer whose output it is for others: a Rescaling's, of an input
  };

  static JsonValue Reference(const std::string& name) {
    JsonValue::Array reference(3, JsonValue::Integer(0));
    reference[0] = JsonValue::Text(name);
    return {std::move(reference)};
  }

  const std::string& Tensor(const std::string& name) { return names_[name].tensor; }

  // Appends a layer that reads the outputs of others, in the form of an older Keras' list, which
  // needs no shapes.
  void Append(const std::string& name, absl::string_view class_name, JsonValue::Object config,
              const std::vector<std::string>& sources) {
    config["name"] = JsonValue::Text(name);
    config.try_emplace("dtype", JsonValue::Text("float32"));
    JsonValue layer = KerasObject("keras.layers", class_name, std::move(config));
    JsonValue::Array node;
    for (const std::string& source : sources) {
      node.push_back(Reference(source));
      std::get<JsonValue::Array>(node.back().value).emplace_back().value = JsonValue::Object();
    }
    JsonValue::Array nodes;
    if (!sources.empty()) nodes.emplace_back().value = std::move(node);
    JsonValue::Object& members = std::get<JsonValue::Object>(layer.value);
    members["name"] = JsonValue::Text(name);
    members["inbound_nodes"] = {std::move(nodes)};
    layers_.push_back(std::move(layer));
  }

  // Keras has slashes between a layer's name and its variables', so none within it.
  absl::StatusOr<std::string> KerasName(const std::string& path, const std::string& name) {
    std::string keras = absl::StrReplaceAll(name, {{"/", "_"}});
    if (used_.insert(keras).second) return keras;
    return absl::InvalidArgumentError(absl::StrCat(path, ".name: \"", name, "\" is \"", keras,
                                                   "\" in Keras, as another layer's is"));
  }

  absl::Status AddInput(const v1::Input& input) {
    absl::StatusOr<std::string> name = KerasName("model.inputs", input.name());
    if (!name.ok()) return name.status();
    JsonValue::Array shape(1);  // any batch
    for (int64_t dim : input.shape()) shape.push_back(JsonValue::Integer(dim));
    JsonValue::Object config;
    config["batch_shape"] = {std::move(shape)};
    Append(*name, "InputLayer", std::move(config), {});
    names_[input.name()] = {*name, *name};
    if ((!input.has_scale() || input.scale() == 1) && input.offset() == 0) return absl::OkStatus();

    absl::StatusOr<std::string> scaled = KerasName("model.inputs", input.name() + "_rescaling");
    if (!scaled.ok()) return scaled.status();
    v1::Rescaling rescaling;
    rescaling.set_scale(input.has_scale() ? input.scale() : 1);
    rescaling.set_offset(input.offset());
    JsonValue::Object scaling;
    if (auto s = WriteFields(rescaling, "model.inputs", scaling); !s.ok()) return s;
    Append(*scaled, "Rescaling", std::move(scaling), {*name});
    names_[input.name()].tensor = *scaled;
    return absl::OkStatus();
  }

  // `before`: the layer or input before it.
  absl::Status AddLayer(const v1::Layer& layer, const std::string& before,
                        const std::string& path) {
    absl::StatusOr<std::string> name = KerasName(path, layer.name());
    if (!name.ok()) return name.status();
    std::vector<std::string> sources;
    for (const std::string& input : layer.inputs()) sources.push_back(Tensor(input));
    if (sources.empty()) sources.push_back(Tensor(before));

    const LayerClass* layer_class = ClassOf(layer);
    if (layer_class == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": Keras has no such layer"));
    }
    absl::string_view class_name = layer_class->name;
    const std::string field(layer_class->field);
    const google::protobuf::Message& kind =
        layer.GetReflection()->GetMessage(layer, layer.GetDescriptor()->FindFieldByName(field));
    JsonValue::Object config;
    if (auto s = WriteFields(kind, absl::StrCat(path, ".", field), config); !s.ok()) return s;
    if (layer.has_trainable()) config["trainable"] = {layer.trainable()};
    if (absl::Status s = AddPadding(path, layer, kind, *name, config, sources); !s.ok()) return s;

    if (layer.has_activation()) {
      class_name = ActivationClass(layer.activation());
      WriteActivation(layer.activation(), class_name, config);
    } else if (layer.has_zero_padding2d() && layer.zero_padding2d().padding_size() == 4) {
      JsonValue nested = Nested(*config["padding"].As<JsonValue::Array>());
      config["padding"] = std::move(nested);
    } else if (layer.has_normalization() && layer.normalization().mean_size() == 1 &&
               layer.normalization().variance_size() == 1) {
      // Keras takes a number for all channels without an axis only.
      config["axis"] = {};
      for (const char* member : {"mean", "variance"}) {
        JsonValue only = config[member].As<JsonValue::Array>()->front();
        config[member] = std::move(only);
      }
    }
    Append(*name, class_name, std::move(config), sources);
    names_[layer.name()] = {*name, *name};
    return absl::OkStatus();
  }

  // Leaves each class the members that it has.
  static void WriteActivation(const v1::Activation& spec, absl::string_view class_name,
                              JsonValue::Object& config) {
    const bool relu = class_name == "ReLU", leaky = class_name == "LeakyReLU";
    if (class_name != "Activation") config.erase("activation");
    if (class_name != "ELU") config.erase("alpha");
    if (!relu) config.erase("max_value");
    if (!relu && !leaky) config.erase("negative_slope");
    // The layer's own default is another.
    if (leaky && !spec.has_negative_slope()) {
      config["negative_slope"] = {JsonValue::Number{"0.2"}};
    }
  }

  // Explicit padding is a layer of its own in Keras, before the convolution.
  absl::Status AddPadding(const std::string& path, const v1::Layer& layer,
                          const google::protobuf::Message& kind, const std::string& name,
                          JsonValue::Object& config, std::vector<std::string>& sources) {
    const auto padding = config.find("padding");
    const std::string* text = padding == config.end() ? nullptr : padding->second.As<std::string>();
    if (text == nullptr || *text != "explicit") return absl::OkStatus();
    padding->second = JsonValue::Text("valid");

    absl::StatusOr<std::string> padded = KerasName(path, name + "_padding");
    if (!padded.ok()) return padded.status();
    const google::protobuf::FieldDescriptor* field =
        kind.GetDescriptor()->FindFieldByName("explicit_padding");
    JsonValue::Array amounts;
    for (int i = 0; i < kind.GetReflection()->FieldSize(kind, field); ++i) {
      amounts.push_back(JsonValue::Integer(kind.GetReflection()->GetRepeatedInt64(kind, field, i)));
    }
    const bool sequence = layer.has_conv1d();
    JsonValue::Object padding_config;
    padding_config["padding"] = sequence ? JsonValue{std::move(amounts)} : Nested(amounts);
    Append(*padded, sequence ? "ZeroPadding1D" : "ZeroPadding2D", std::move(padding_config),
           sources);
    sources = {*padded};
    return absl::OkStatus();
  }

  const v1::ModelSpec& spec_;
  JsonValue::Array layers_;
  std::map<std::string, Names> names_;
  std::set<std::string> used_;
};

}  // namespace

absl::StatusOr<std::string> ModelToKeras(const v1::ModelSpec& spec) {
  return ModelWriter(spec).Write();
}

}  // namespace lockstep
