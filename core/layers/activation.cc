#include "core/layers/build.h"

namespace lockstep {
namespace {

// y = f(x), element by element; softmax over the last axis.
class ActivationLayer final : public Layer {
 public:
  ActivationLayer(kernels::Activation activation, Shape shape)
      : activation_(activation), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }
  LayerTraits traits() const override {
    return {.backward_reads_y = true,
            .final_activation = activation_,
            .is_relu = activation_ == kernels::Activation::kRelu};
  }

  void Forward(const ForwardContext& c) const override {
    Apply(*c.step.kernels, c.tile.samples, c.x(), c.y, c.logits);
  }

  void Infer(const InferContext& c) const override {
    Apply(*c.kernels, c.samples, c.x(), c.y, c.logits);
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    const kernels::Activation f = c.logits ? kernels::Activation::kLinear : activation_;
    c.step.kernels->activate_backward(f, c.tile.samples * shape_.positions(), shape_.channels(),
                                      c.y, c.dy, c.dx());
  }

 private:
  void Apply(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
             bool logits) const {
    const kernels::Activation f = logits ? kernels::Activation::kLinear : activation_;
    kernels.activate(f, samples * shape_.positions(), shape_.channels(), x, y);
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
  return std::make_unique<ActivationLayer>(*activation, c.input());
}

}  // namespace lockstep
