#include "core/keras/layer_classes.h"

#include "core/keras/fields.h"
#include "google/protobuf/descriptor.h"

namespace lockstep {
namespace {

// The layer's default is not the function's, and Keras 2 had another name for it.
void ReadLeakyRelu(ObjectReader&, v1::Layer& layer) {
  v1::Activation& spec = *layer.mutable_activation();
  if (!spec.has_negative_slope()) spec.set_negative_slope(spec.has_alpha() ? spec.alpha() : 0.3f);
  spec.clear_alpha();
}

// The axis is the last one; without one the mean and variance are single numbers.
void ReadNormalization(ObjectReader& config, v1::Layer& layer) {
  if (!config.Has("axis")) return;
  const JsonValue* axis = config.Take("axis");
  const std::vector<JsonValue::Number> axes =
      axis == nullptr ? std::vector<JsonValue::Number>()
                      : ReadNumbers(config.conversion(), config.Path("axis"), *axis);
  if (axes.empty() ? layer.normalization().mean_size() == 1
                   : axes.size() == 1 && axes[0].text == "-1") {
    return;
  }
  config.conversion().Fail(config.Path("axis"),
                           "must be -1, or null with one mean and one variance");
}

}  // namespace

std::span<const LayerClass> LayerClasses() {
  static constexpr LayerClass kClasses[] = {
      {"Activation", "activation"},
      {"Add", "add"},
      {"AveragePooling1D", "average_pooling1d"},
      {"AveragePooling2D", "average_pooling2d"},
      {"BatchNormalization", "batch_normalization"},
      {"Concatenate", "concatenate"},
      {"Conv1D", "conv1d"},
      {"Conv2D", "conv2d"},
      {"Dense", "dense"},
      {"DepthwiseConv2D", "depthwise_conv2d"},
      {"Dropout", "dropout"},
      {"ELU", "activation", "elu"},
      {"Flatten", "flatten"},
      {"GaussianNoise", "gaussian_noise"},
      {"GlobalAveragePooling1D", "global_average_pooling1d"},
      {"GlobalAveragePooling2D", "global_average_pooling2d"},
      {"GlobalMaxPooling1D", "global_max_pooling1d"},
      {"GlobalMaxPooling2D", "global_max_pooling2d"},
      {"GroupNormalization", "group_normalization"},
      {"LayerNormalization", "layer_normalization"},
      {"LeakyReLU", "activation", "leaky_relu", ReadLeakyRelu},
      {"MaxPooling1D", "max_pooling1d"},
      {"MaxPooling2D", "max_pooling2d"},
      {"Multiply", "multiply"},
      {"Normalization", "normalization", "", ReadNormalization},
      {"Permute", "permute"},
      {"ReLU", "activation", "relu"},
      {"Rescaling", "rescaling"},
      {"Reshape", "reshape"},
      {"SeparableConv2D", "separable_conv2d"},
      {"Softmax", "activation", "softmax"},
      {"SpatialDropout2D", "spatial_dropout2d"},
      {"ZeroPadding2D", "zero_padding2d"},
  };
  return kClasses;
}

void ReadKind(const LayerClass& layer_class, ObjectReader& config, v1::Layer& layer) {
  const google::protobuf::FieldDescriptor* field =
      v1::Layer::descriptor()->FindFieldByName(std::string(layer_class.field));
  google::protobuf::Message& kind = *layer.GetReflection()->MutableMessage(&layer, field);
  if (!layer_class.activation.empty()) {
    layer.mutable_activation()->set_activation(std::string(layer_class.activation));
  }
  ReadFields(config, kind);
  if (layer_class.read != nullptr) layer_class.read(config, layer);
}

}  // namespace lockstep
