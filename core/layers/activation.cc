#include <cmath>

#include "core/layers/build.h"

namespace lockstep {
namespace {

// y = f(x), element by element; softmax over the last axis.
class ActivationLayer final : public Layer {
 public:
  ActivationLayer(kernels::ActivationFunction f, Shape shape) : f_(f), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }
  LayerTraits traits() const override {
    const bool reads_x = kernels::DifferentiatesFromInput(f_.kind);
    return {.backward_reads_x = reads_x,
            .backward_reads_y = !reads_x,
            .ends_in_softmax = f_.kind == Kind::kSoftmax,
            .is_relu = f_.kind == Kind::kRelu};
  }

  void Forward(const ForwardContext& c) const override {
    Apply(*c.step.kernels, c.tile.samples, c.x(), c.y, c.logits);
  }

  void Infer(const InferContext& c) const override {
    Apply(*c.kernels, c.samples, c.x(), c.y, c.logits);
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    const bool reads_x = kernels::DifferentiatesFromInput(f_.kind);
    c.step.kernels->activate_backward(Function(c.logits), c.tile.samples * shape_.positions(),
                                      shape_.channels(), reads_x ? c.x : c.y, c.dy, c.dx());
  }

 private:
  using Kind = kernels::Activation;

  kernels::ActivationFunction Function(bool logits) const {
    return logits ? kernels::ActivationFunction{Kind::kLinear} : f_;
  }

  void Apply(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
             bool logits) const {
    kernels.activate(Function(logits), samples * shape_.positions(), shape_.channels(), x, y);
  }

  const kernels::ActivationFunction f_;
  const Shape shape_;
};

// Puts an argument of the activation in its place, which only one of the functions `takes` names
// has. Unset means the function's own default.
absl::Status SetArgument(const BuildContext& c, const v1::Activation& spec, absl::string_view field,
                         bool is_set, float value, bool allowed, absl::string_view takes,
                         bool valid, absl::string_view range, float* argument) {
  if (!is_set) return absl::OkStatus();
  if (!allowed) {
    return FieldError(c, field,
                      absl::StrCat("is an argument of ", takes, ", not of ", spec.activation()));
  }
  if (!valid || !std::isfinite(value)) {
    return FieldError(c, field, absl::StrCat("must be ", range, " and finite, got ", value));
  }
  *argument = value;
  return absl::OkStatus();
}

}  // namespace

LayerOr BuildActivation(const BuildContext& c, v1::Layer* layer) {
  v1::Activation& spec = *layer->mutable_activation();
  if (spec.activation().empty()) return FieldError(c, "activation", "is required");
  auto f = ParseActivation(c, spec.mutable_activation());
  if (!f.ok()) return f.status();
  const bool relu = spec.activation() == "relu";
  const bool leaky = spec.activation() == "leaky_relu";
  absl::Status status = SetArgument(c, spec, "negative_slope", spec.has_negative_slope(),
                                    spec.negative_slope(), relu || leaky, "relu and leaky_relu",
                                    spec.negative_slope() >= 0, ">= 0", &f->negative_slope);
  status.Update(SetArgument(c, spec, "max_value", spec.has_max_value(), spec.max_value(), relu,
                            "relu", spec.max_value() > 0, "> 0", &f->max_value));
  status.Update(SetArgument(c, spec, "alpha", spec.has_alpha(), spec.alpha(),
                            spec.activation() == "elu", "elu", spec.alpha() >= 0, ">= 0",
                            &f->alpha));
  if (!status.ok()) return status;
  const bool plain = f->negative_slope == 0 && !spec.has_max_value();
  if (relu && !plain) f->kind = kernels::Activation::kRectifier;
  return std::make_unique<ActivationLayer>(*f, c.input());
}

}  // namespace lockstep
