#include <cmath>

#include "core/layers/build.h"

namespace lockstep {
namespace {

// y = fma(x, scale, offset).
class Rescaling final : public Layer {
 public:
  Rescaling(float scale, float offset, Shape shape)
      : scale_(scale), offset_(offset), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  void Forward(const ForwardContext& c) const override {
    c.step.kernels->scale_float(c.x(), c.tile.samples * shape_.size(), scale_, offset_, c.y);
  }

  void Infer(const InferContext& c) const override {
    c.kernels->scale_float(c.x(), c.samples * shape_.size(), scale_, offset_, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    c.step.kernels->scale_float(c.dy, c.tile.samples * shape_.size(), scale_, 0.0f, c.dx());
  }

 private:
  const float scale_;
  const float offset_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildRescaling(const BuildContext& c, v1::Layer* layer) {
  v1::Rescaling& spec = *layer->mutable_rescaling();
  if (!spec.has_scale()) spec.set_scale(1.0f);
  if (!std::isfinite(spec.scale())) {
    return FieldError(c, "scale", absl::StrCat("must be finite, got ", spec.scale()));
  }
  if (!std::isfinite(spec.offset())) {
    return FieldError(c, "offset", absl::StrCat("must be finite, got ", spec.offset()));
  }
  return std::make_unique<Rescaling>(spec.scale(), spec.offset(), c.input());
}

}  // namespace lockstep
