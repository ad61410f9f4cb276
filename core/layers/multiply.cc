#include <Eigen/Core>

#include "core/layers/build.h"

namespace lockstep {
namespace {

using Values = Eigen::Map<Eigen::ArrayXf>;
using ConstValues = Eigen::Map<const Eigen::ArrayXf>;

// y = x[0] * x[1] * ..., left to right; dx[i] = dy * x[0] * x[1] * ... without x[i], likewise.
class Multiply final : public Layer {
 public:
  explicit Multiply(Shape shape) : shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  LayerTraits traits() const override { return {.backward_reads_x = true}; }

  void Forward(const ForwardContext& c) const override {
    Product(c.tile.samples, c.inputs[0], c.inputs, 0, c.y);
  }

  void Infer(const InferContext& c) const override {
    Product(c.samples, c.inputs[0], c.inputs, 0, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      if (float* dx = c.input_gradients[i]; dx != nullptr) {
        Product(c.tile.samples, c.dy, c.inputs, i, dx);
      }
    }
  }

 private:
  // product = first * those of `factors` that are not number `without`.
  void Product(int64_t samples, const float* first, std::span<const float* const> factors,
               size_t without, float* product) const {
    const int64_t n = samples * shape_.size();
    for (size_t i = 0; i < factors.size(); ++i) {
      if (i == without) continue;
      Values(product, n) = ConstValues(first, n) * ConstValues(factors[i], n);
      first = product;
    }
  }

  const Shape shape_;
};

}  // namespace

LayerOr BuildMultiply(const BuildContext& c, v1::Layer*) {
  if (auto s = CheckOneShape(c); !s.ok()) return s;
  return std::make_unique<Multiply>(c.input());
}

}  // namespace lockstep
