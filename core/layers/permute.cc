#include <algorithm>

#include "core/data/tensor.h"
#include "core/layers/build.h"

namespace lockstep {
namespace {

// An axis of the output: its length, and how far apart its elements are in the input.
struct Axis {
  int64_t length;
  int64_t stride;
};

// The axes of a sample in another order.
class Permute final : public Layer {
 public:
  Permute(std::vector<Axis> axes, Shape shape) : axes_(std::move(axes)), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  void Forward(const ForwardContext& c) const override { Copy(c.tile.samples, c.x(), c.y); }

  void Infer(const InferContext& c) const override { Copy(c.samples, c.x(), c.y); }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    const float* dy = c.dy;
    ForValues(c.tile.samples, [&](int64_t in) { c.dx()[in] = *dy++; });
  }

 private:
  void Copy(int64_t samples, const float* x, float* y) const {
    ForValues(samples, [&](int64_t in) { *y++ = x[in]; });
  }

  // Calls body(place in x) for each value in the order of y.
  template <typename Body>
  void ForValues(int64_t samples, Body body) const {
    for (int64_t n = 0; n < samples; ++n) Walk(axes_, n * shape_.size(), body);
  }
  template <typename Body>
  static void Walk(std::span<const Axis> axes, int64_t begin, Body& body) {
    const Axis& axis = axes.front();
    for (int64_t i = 0; i < axis.length; ++i, begin += axis.stride) {
      if (axes.size() == 1) {
        body(begin);
      } else {
        Walk(axes.subspan(1), begin, body);
      }
    }
  }

  const std::vector<Axis> axes_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildPermute(const BuildContext& c, v1::Layer* layer) {
  const auto& dims = layer->permute().dims();
  const int rank = c.input().rank();
  std::vector<int64_t> sorted(dims.begin(), dims.end());
  std::sort(sorted.begin(), sorted.end());
  bool valid = dims.size() == rank;
  for (int i = 0; valid && i < rank; ++i) valid = sorted[i] == i + 1;
  if (!valid) {
    return FieldError(c, "dims",
                      absl::StrCat("must hold each of 1 to ", rank, " once, got ",
                                   ShapeString({dims.data(), sorted.size()})));
  }
  std::vector<Axis> axes;
  std::vector<int64_t> shape;
  for (int64_t dim : dims) {
    const std::span<const int64_t> input = c.input().dims();
    axes.push_back({input[dim - 1], ElementCount(input.subspan(dim))});
    shape.push_back(input[dim - 1]);
  }
  return std::make_unique<Permute>(std::move(axes), Shape(std::move(shape)));
}

}  // namespace lockstep
