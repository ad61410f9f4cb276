#ifndef LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_
#define LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_

#include "core/tensor/shape.h"

namespace lockstep {

// One row a kind of layer at least; layer_cases_test.cc derives its tests from these rows, and
// fails for a kind without one. Gradients are checked by differences, so activations here are
// smooth where the layer mixes its inputs.
struct LayerCase {
  const char* name;
  const char* spec;
  Shape input;
};

inline const LayerCase kLayerCases[] = {
    {"dense", R"({"dense": {"units": 5, "activation": "tanh"}})", {7}},
    {"dense_softmax", R"({"dense": {"units": 4, "activation": "softmax"}})", {6}},
    {"dense_positions", R"({"dense": {"units": 3, "activation": "gelu"}})", {4, 2, 5}},
    {"dense_silu", R"({"dense": {"units": 4, "activation": "silu"}})", {6}},
    {"dense_without_bias", R"({"dense": {"units": 3, "use_bias": false}})", {9}},
    {"conv2d",
     R"({"conv2d": {"filters": 3, "kernel_size": [3], "activation": "sigmoid"}})",
     {5, 6, 2}},
    {"conv2d_softplus",
     R"({"conv2d": {"filters": 3, "kernel_size": [2], "activation": "softplus"}})",
     {4, 3, 2}},
    {"conv2d_same_strided",
     R"({"conv2d": {"filters": 4, "kernel_size": [3, 2], "strides": [2], "padding": "same"}})",
     {6, 5, 3}},
    {"conv2d_dilated",
     R"({"conv2d": {"filters": 3, "kernel_size": [3], "dilation_rate": [2, 3], "strides": [1, 2],
                    "padding": "same"}})",
     {6, 7, 2}},
    {"conv2d_groups",
     R"({"conv2d": {"filters": 6, "kernel_size": [2, 3], "groups": 2, "use_bias": false}})",
     {4, 5, 4}},
    {"conv2d_depthwise",
     R"({"conv2d": {"filters": 5, "kernel_size": [3], "groups": 5, "padding": "same"}})",
     {4, 5, 5}},
    {"conv2d_depthwise_dilated",
     R"({"conv2d": {"filters": 3, "kernel_size": [2], "groups": 3, "dilation_rate": [2],
                    "strides": [2], "padding": "same"}})",
     {6, 5, 3}},
    {"conv2d_multiplier",
     R"({"conv2d": {"filters": 6, "kernel_size": [2], "groups": 3, "activation": "sigmoid"}})",
     {3, 4, 3}},
    {"conv2d_one_position", R"({"conv2d": {"filters": 4, "kernel_size": [3]}})", {3, 3, 2}},
    {"batch_normalization", R"({"batch_normalization": {"momentum": 0.9}})", {4}},
    {"batch_normalization_image",
     R"({"batch_normalization": {"gamma_initializer": {"constant": {"value": 2}}}})",
     {3, 3, 5}},
    {"batch_normalization_plain",
     R"({"batch_normalization": {"center": false, "scale": false}})",
     {3}},
    {"max_pooling2d", R"({"max_pooling2d": {}})", {4, 6, 3}},
    {"max_pooling2d_overlapping",
     R"({"max_pooling2d": {"pool_size": [3], "strides": [2]}})",
     {5, 5, 2}},
    {"flatten", R"({"flatten": {}})", {2, 3, 2}},
    {"activation_relu", R"({"activation": {"activation": "relu"}})", {11}},
    {"activation_tanh", R"({"activation": {"activation": "tanh"}})", {2, 2, 3}},
    {"activation_softmax", R"({"activation": {"activation": "softmax"}})", {5}},
    {"activation_relu6", R"({"activation": {"activation": "relu6"}})", {11}},
    {"activation_rectifier",
     R"({"activation": {"activation": "relu", "max_value": 2, "negative_slope": 0.25}})",
     {11}},
    {"activation_elu", R"({"activation": {"activation": "elu", "alpha": 0.5}})", {11}},
    {"activation_selu", R"({"activation": {"activation": "selu"}})", {11}},
    {"activation_gelu", R"({"activation": {"activation": "gelu"}})", {3, 3, 2}},
    {"activation_gelu_tanh", R"({"activation": {"activation": "gelu_tanh"}})", {11}},
    {"activation_silu", R"({"activation": {"activation": "silu"}})", {11}},
    {"activation_hard_sigmoid", R"({"activation": {"activation": "hard_sigmoid"}})", {11}},
    {"activation_softplus", R"({"activation": {"activation": "softplus"}})", {11}},
    {"rescaling", R"({"rescaling": {"scale": 0.5, "offset": -1}})", {2, 3, 2}},
    {"layer_normalization", R"({"layer_normalization": {}})", {19}},
    {"layer_normalization_positions", R"({"layer_normalization": {}})", {3, 4, 5}},
    {"layer_normalization_axes", R"({"layer_normalization": {"axis": [-2, -1]}})", {3, 4, 5}},
    {"layer_normalization_plain",
     R"({"layer_normalization": {"center": false, "scale": false}})",
     {8}},
    {"group_normalization", R"({"group_normalization": {"groups": 2}})", {3, 4, 6}},
    {"group_normalization_row", R"({"group_normalization": {"groups": 3}})", {12}},
    {"group_normalization_plain",
     R"({"group_normalization": {"groups": 1, "center": false, "scale": false}})",
     {5, 4}},
    {"add", R"({"add": {}})", {3, 2, 5}},
    {"global_average_pooling2d", R"({"global_average_pooling2d": {}})", {3, 4, 5}},
    {"dropout", R"({"dropout": {"rate": 0.4}})", {10}},
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_
