#include "core/data/tensor.h"
#include "core/layers/build.h"

namespace lockstep {
namespace {

constexpr int kMaxRank = 6;

// The same values under another shape: the same memory.
class Reshape final : public Layer {
 public:
  explicit Reshape(Shape shape) : shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }
  LayerTraits traits() const override { return {.is_view = true}; }
  void Forward(const ForwardContext&) const override {}
  void Backward(const BackwardContext&) const override {}
  void Infer(const InferContext&) const override {}

 private:
  const Shape shape_;
};

}  // namespace

LayerOr BuildFlatten(const BuildContext& c, v1::Layer*) {
  return std::make_unique<Reshape>(Shape{c.input().size()});
}

LayerOr BuildReshape(const BuildContext& c, v1::Layer* layer) {
  const auto& target = layer->reshape().target_shape();
  std::vector<int64_t> dims(target.begin(), target.end());
  if (dims.empty() || dims.size() > kMaxRank) {
    return FieldError(c, "target_shape",
                      absl::StrCat("must have 1 to ", kMaxRank, " dimensions, got ", dims.size()));
  }
  const int64_t size = c.input().size();
  int64_t known = 1;
  int64_t* open = nullptr;
  for (int64_t& dim : dims) {
    if (dim == -1 && open == nullptr) {
      open = &dim;
    } else if (dim < 1) {
      return FieldError(c, "target_shape",
                        absl::StrCat("dimensions must be >= 1, or one of them -1, got ",
                                     ShapeString({target.data(), dims.size()})));
    } else {
      known = dim > size / known ? size + 1 : known * dim;
    }
  }
  if (open != nullptr) *open = size / known;
  if (open == nullptr ? known != size : size % known != 0) {
    return FieldError(c, "target_shape",
                      absl::StrCat(ShapeString({target.data(), dims.size()}), " does not have the ",
                                   size, " values of the input ", ShapeString(c.input().dims())));
  }
  return std::make_unique<Reshape>(Shape(std::move(dims)));
}

}  // namespace lockstep
