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
      {v1::Layer::kRescaling, "rescaling", BuildRescaling},
      {v1::Layer::kLayerNormalization, "layer_normalization", BuildLayerNormalization},
      {v1::Layer::kGroupNormalization, "group_normalization", BuildGroupNormalization},
  };
  return kKinds;
}

}  // namespace lockstep
