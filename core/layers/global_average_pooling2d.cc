#include "core/layers/build.h"

namespace lockstep {
namespace {

// y[n, c] = the mean of x[n, i, j, c] over i and j.
class GlobalAveragePooling2D final : public Layer {
 public:
  explicit GlobalAveragePooling2D(const Shape& shape)
      : positions_(shape.positions()), channels_(shape.channels()) {}

  Shape output_shape() const override { return {channels_}; }

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
};

}  // namespace

LayerOr BuildGlobalAveragePooling2D(const BuildContext& c, v1::Layer*) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  return std::make_unique<GlobalAveragePooling2D>(c.input());
}

}  // namespace lockstep
