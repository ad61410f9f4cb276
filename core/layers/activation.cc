#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"
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
            .final_activation = f_.kind,
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

// A number that some of the functions take; unset it has the function's default.
struct Argument {
  absl::string_view field;
  bool is_set;
  float value;
  std::vector<absl::string_view> functions;
  bool may_be_zero;
  float* place;
};

}  // namespace

LayerOr BuildActivation(const BuildContext& c, v1::Layer* layer) {
  v1::Activation& spec = *layer->mutable_activation();
  if (spec.activation().empty()) return FieldError(c, "activation", "is required");
  auto f = ParseActivation(c, spec.mutable_activation());
  if (!f.ok()) return f.status();
  const std::string& name = spec.activation();
  for (const Argument& a : {Argument{"negative_slope",
                                     spec.has_negative_slope(),
                                     spec.negative_slope(),
                                     {"relu", "leaky_relu"},
                                     /*may_be_zero=*/true,
                                     &f->negative_slope},
                            Argument{"max_value",
                                     spec.has_max_value(),
                                     spec.max_value(),
                                     {"relu"},
                                     /*may_be_zero=*/false,
                                     &f->max_value},
                            Argument{"alpha",
                                     spec.has_alpha(),
                                     spec.alpha(),
                                     {"elu"},
                                     /*may_be_zero=*/true,
                                     &f->alpha}}) {
    if (!a.is_set) continue;
    if (std::find(a.functions.begin(), a.functions.end(), name) == a.functions.end()) {
      return FieldError(c, a.field,
                        absl::StrCat("is an argument of ", absl::StrJoin(a.functions, " and "),
                                     ", not of ", name));
    }
    const bool valid = a.value > 0 || (a.may_be_zero && a.value == 0);
    if (!valid || !std::isfinite(a.value)) {
      return FieldError(
          c, a.field,
          absl::StrCat("must be ", a.may_be_zero ? ">= 0" : "> 0", " and finite, got ", a.value));
    }
    *a.place = a.value;
  }
  if (name == "leaky_relu") spec.set_negative_slope(f->negative_slope);
  if (name == "elu") spec.set_alpha(f->alpha);
  // A plain ReLU has kernels of its own, and other layers may apply it.
  if (name == "relu" && (f->negative_slope > 0 || spec.has_max_value())) {
    f->kind = kernels::Activation::kRectifier;
  }
  return std::make_unique<ActivationLayer>(*f, c.input());
}

}  // namespace lockstep
