#include <algorithm>

#include "core/layers/build.h"

namespace lockstep {
namespace {

// y = x[0] + x[1] + ..., left to right.
class Add final : public Layer {
 public:
  explicit Add(Shape shape) : shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  LayerTraits traits() const override { return {.passes_gradient = true, .applies_relu = true}; }

  void Forward(const ForwardContext& c) const override {
    Sum(*c.step.kernels, c.tile.samples, c.inputs, c.relu, c.y);
  }

  void Infer(const InferContext& c) const override {
    Sum(*c.kernels, c.samples, c.inputs, c.relu, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    for (float* dx : c.input_gradients) {
      if (dx != nullptr && dx != c.dy) std::copy_n(c.dy, c.tile.samples * shape_.size(), dx);
    }
  }

 private:
  void Sum(const kernels::KernelTable& kernels, int64_t samples,
           std::span<const float* const> inputs, bool relu, float* y) const {
    const int64_t n = samples * shape_.size();
    const float* sum = inputs[0];
    for (const float* x : inputs.subspan(1)) {
      kernels.add(n, sum, x, relu && x == inputs.back(), y);
      sum = y;
    }
  }

  const Shape shape_;
};

}  // namespace

LayerOr BuildAdd(const BuildContext& c, v1::Layer*) {
  if (auto s = CheckOneShape(c); !s.ok()) return s;
  return std::make_unique<Add>(c.input());
}

}  // namespace lockstep
