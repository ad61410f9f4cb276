#ifndef LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_
#define LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_

#include <vector>

#include "core/tensor/shape.h"

namespace lockstep {

// One row a kind of layer at least; layer_cases_test.cc derives its tests from these rows, and
// fails for a kind without one. Gradients are checked by differences, so activations here are
// smooth where the layer mixes its inputs.
struct LayerCase {
  const char* name;
  const char* spec;
  Shape input;
  std::vector<Shape> others = {};  // inputs of a layer that merges, if they have other shapes
};

inline const LayerCase kLayerCases[] = {
    {"dense", R"({"dense": {"units": 5, "activation": "tanh"}})", {7}},
    {"dense_softmax", R"({"dense": {"units": 4, "activation": "softmax"}})", {6}},
    {"dense_without_bias", R"({"dense": {"units": 3, "use_bias": false}})", {9}},
    {"conv2d",
     R"({"conv2d": {"filters": 3, "kernel_size": [3], "activation": "sigmoid"}})",
     {5, 6, 2}},
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
    {"batch_normalization_axis", R"({"batch_normalization": {"axis": 1}})", {3, 2, 5}},
    {"batch_normalization_rows_of_an_image", R"({"batch_normalization": {"axis": -2}})", {4, 1}},
    {"batch_normalization_pytorch",
     R"({"batch_normalization": {"convention": "pytorch", "cumulative_average": true}})",
     {2, 2, 3}},
    {"max_pooling2d", R"({"max_pooling2d": {}})", {4, 6, 3}},
    {"max_pooling2d_overlapping",
     R"({"max_pooling2d": {"pool_size": [3], "strides": [2]}})",
     {5, 5, 2}},
    {"flatten", R"({"flatten": {}})", {2, 3, 2}},
    {"activation_relu", R"({"activation": {"activation": "relu"}})", {11}},
    {"activation_tanh", R"({"activation": {"activation": "tanh"}})", {2, 2, 3}},
    {"activation_softmax", R"({"activation": {"activation": "softmax"}})", {5}},
    {"add", R"({"add": {}})", {3, 2, 5}},
    {"global_average_pooling2d", R"({"global_average_pooling2d": {}})", {3, 4, 5}},
    {"dropout", R"({"dropout": {"rate": 0.4}})", {10}},
    {"conv2d_explicit_padding",
     R"({"conv2d": {"filters": 3, "kernel_size": [3], "padding": "explicit", "strides": [2, 1],
                    "explicit_padding": [2, 0, 1, 2]}})",
     {4, 5, 2}},
    {"conv1d",
     R"({"conv1d": {"filters": 4, "kernel_size": 3, "activation": "tanh", "padding": "same",
                    "strides": 2}})",
     {7, 3}},
    {"conv1d_causal",
     R"({"conv1d": {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "causal",
                    "groups": 2, "use_bias": false}})",
     {9, 4}},
    {"depthwise_conv2d",
     R"({"depthwise_conv2d": {"kernel_size": [3], "depth_multiplier": 2, "padding": "same"}})",
     {5, 4, 3}},
    {"separable_conv2d",
     R"({"separable_conv2d": {"filters": 5, "kernel_size": [3, 2], "depth_multiplier": 2,
                              "activation": "sigmoid"}})",
     {5, 4, 3}},
    {"separable_conv2d_one_position",
     R"({"separable_conv2d": {"filters": 4, "kernel_size": [3]}})",
     {3, 3, 2}},
    {"max_pooling2d_same",
     R"({"max_pooling2d": {"pool_size": [3, 2], "strides": [2], "padding": "same"}})",
     {5, 6, 2}},
    {"max_pooling1d", R"({"max_pooling1d": {"pool_size": 3, "strides": 2}})", {8, 3}},
    {"average_pooling1d", R"({"average_pooling1d": {"padding": "same"}})", {7, 3}},
    {"average_pooling2d", R"({"average_pooling2d": {}})", {4, 6, 3}},
    {"average_pooling2d_same",
     R"({"average_pooling2d": {"pool_size": [3], "strides": [1, 2], "padding": "same"}})",
     {5, 6, 2}},
    {"global_average_pooling1d", R"({"global_average_pooling1d": {"keepdims": true}})", {6, 5}},
    {"global_max_pooling1d", R"({"global_max_pooling1d": {}})", {6, 5}},
    {"global_max_pooling2d", R"({"global_max_pooling2d": {"keepdims": true}})", {3, 4, 5}},
    {"reshape", R"({"reshape": {"target_shape": [2, -1]}})", {3, 4}},
    {"permute", R"({"permute": {"dims": [3, 1, 2]}})", {3, 4, 5}},
    {"zero_padding2d", R"({"zero_padding2d": {"padding": [1, 0, 2, 3]}})", {3, 2, 4}},
    {"concatenate", R"({"concatenate": {}})", {3, 2, 5}, {{3, 2, 1}, {3, 2, 4}}},
    {"concatenate_rows", R"({"concatenate": {"axis": 1}})", {3, 2}, {{1, 2}}},
    {"multiply", R"({"multiply": {}})", {3, 5}, {{3, 5}, {3, 5}}},
    {"spatial_dropout2d", R"({"spatial_dropout2d": {"rate": 0.4, "seed": 5}})", {3, 2, 6}},
    {"gaussian_noise", R"({"gaussian_noise": {"stddev": 0.3}})", {3, 7}},
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_LAYERS_LAYER_CASES_H_
