#include <algorithm>

#include "core/layers/build.h"
#include "core/layers/rows.h"

namespace lockstep {
namespace {

// y = f(x), element by element; softmax over the last axis.
class ActivationLayer final : public Layer {
 public:
  ActivationLayer(kernels::Activation activation, Shape shape)
      : activation_(activation), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }
  bool ends_in_softmax() const override { return activation_ == kernels::Activation::kSoftmax; }

  void Forward(const ForwardContext& c) const override {
    ParallelRows(
        *c.step.pool, c.step.batch->samples * shape_.positions(), 64,
        [&](int64_t begin, int64_t end) { Rows(*c.step.kernels, c.x, c.y, c.logits, begin, end); });
  }

  void Infer(const InferContext& c) const override {
    Rows(*c.kernels, c.x, c.y, c.logits, 0, c.samples * shape_.positions());
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx == nullptr) return;
    const int64_t channels = shape_.channels();
    ParallelRows(
        *c.step.pool, c.step.batch->samples * shape_.positions(), 64,
        [&](int64_t begin, int64_t end) {
          std::copy(c.dy + begin * channels, c.dy + end * channels, c.dx + begin * channels);
          if (c.logits) return;
          c.step.kernels->activate_backward(activation_, end - begin, channels,
                                            c.y + begin * channels, c.dx + begin * channels);
        });
  }

 private:
  void Rows(const kernels::KernelTable& kernels, const float* x, float* y, bool logits,
            int64_t begin, int64_t end) const {
    const int64_t channels = shape_.channels();
    std::copy(x + begin * channels, x + end * channels, y + begin * channels);
    if (!logits) kernels.activate(activation_, end - begin, channels, y + begin * channels);
  }

  const kernels::Activation activation_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildActivation(const BuildContext& c, v1::Layer* layer) {
  std::string* name = layer->mutable_activation()->mutable_activation();
  if (name->empty()) return FieldError(c, "activation", "is required");
  auto activation = ParseActivation(c, name);
  if (!activation.ok()) return activation.status();
  return std::make_unique<ActivationLayer>(*activation, c.input);
}

}  // namespace lockstep
