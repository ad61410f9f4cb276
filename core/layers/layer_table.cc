#include "core/layers/layer_table.h"

namespace lockstep {

std::span<const LayerKind> LayerKinds() {
  static constexpr LayerKind kKinds[] = {
      {v1::Layer::kDense, "dense", BuildDense},
      {v1::Layer::kConv2D, "conv2d", BuildConv2D},
      {v1::Layer::kBatchNormalization, "batch_normalization", BuildBatchNormalization},
      {v1::Layer::kMaxPooling2D, "max_pooling2d", BuildMaxPooling2D},
      {v1::Layer::kFlatten, "flatten", BuildFlatten},
      {v1::Layer::kActivation, "activation", BuildActivation},
      {v1::Layer::kDropout, "dropout", BuildDropout},
      {v1::Layer::kAdd, "add", BuildAdd, /*merges=*/true},
      {v1::Layer::kGlobalAveragePooling2D, "global_average_pooling2d", BuildGlobalAveragePooling2D},
      {v1::Layer::kConv1D, "conv1d", BuildConv1D},
      {v1::Layer::kDepthwiseConv2D, "depthwise_conv2d", BuildDepthwiseConv2D},
      {v1::Layer::kSeparableConv2D, "separable_conv2d", BuildSeparableConv2D},
      {v1::Layer::kMaxPooling1D, "max_pooling1d", BuildMaxPooling1D},
      {v1::Layer::kAveragePooling1D, "average_pooling1d", BuildAveragePooling1D},
      {v1::Layer::kAveragePooling2D, "average_pooling2d", BuildAveragePooling2D},
      {v1::Layer::kGlobalAveragePooling1D, "global_average_pooling1d", BuildGlobalAveragePooling1D},
      {v1::Layer::kGlobalMaxPooling1D, "global_max_pooling1d", BuildGlobalMaxPooling1D},
      {v1::Layer::kGlobalMaxPooling2D, "global_max_pooling2d", BuildGlobalMaxPooling2D},
      {v1::Layer::kReshape, "reshape", BuildReshape},
      {v1::Layer::kPermute, "permute", BuildPermute},
      {v1::Layer::kZeroPadding2D, "zero_padding2d", BuildZeroPadding2D},
      {v1::Layer::kConcatenate, "concatenate", BuildConcatenate, /*merges=*/true},
      {v1::Layer::kMultiply, "multiply", BuildMultiply, /*merges=*/true},
      {v1::Layer::kSpatialDropout2D, "spatial_dropout2d", BuildSpatialDropout2D},
      {v1::Layer::kGaussianNoise, "gaussian_noise", BuildGaussianNoise},
      {v1::Layer::kRescaling, "rescaling", BuildRescaling},
      {v1::Layer::kNormalization, "normalization", BuildNormalization},
      {v1::Layer::kLayerNormalization, "layer_normalization", BuildLayerNormalization},
      {v1::Layer::kGroupNormalization, "group_normalization", BuildGroupNormalization},
  };
  return kKinds;
}

}  // namespace lockstep
