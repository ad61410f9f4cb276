#include "core/layers/pooling.h"

namespace lockstep {
namespace {

// y[n, c] = the mean of x[n, p, c] over the positions p.
class GlobalAveragePooling final : public Layer {
 public:
  GlobalAveragePooling(const Shape& shape, bool keepdims)
      : positions_(shape.positions()),
        channels_(shape.channels()),
        output_(GlobalPoolingShape(shape, keepdims)) {}

  Shape output_shape() const override { return output_; }

  LayerTraits traits() const override { return {.cheap_backward = true}; }

  void Forward(const ForwardContext& c) const override {
    Average(*c.step.kernels, c.tile.samples, c.x(), c.y);
  }

  void Infer(const InferContext& c) const override { Average(*c.kernels, c.samples, c.x(), c.y); }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      c.step.kernels->average_pool_backward(positions_, channels_, c.dy + n * channels_,
                                            c.dx() + n * positions_ * channels_);
    }
  }

 private:
  void Average(const kernels::KernelTable& kernels, int64_t samples, const float* x,
               float* y) const {
    for (int64_t n = 0; n < samples; ++n) {
      kernels.average_pool(positions_, channels_, x + n * positions_ * channels_,
                           y + n * channels_);
    }
  }

  const int64_t positions_;
  const int64_t channels_;
  const Shape output_;
};

}  // namespace

LayerOr BuildGlobalAveragePooling2D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  return std::make_unique<GlobalAveragePooling>(c.input(),
                                                layer->global_average_pooling2d().keepdims());
}

LayerOr BuildGlobalAveragePooling1D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckSequence(c); !s.ok()) return s;
  return std::make_unique<GlobalAveragePooling>(c.input(),
                                                layer->global_average_pooling1d().keepdims());
}

}  // namespace lockstep
