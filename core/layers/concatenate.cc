#include <algorithm>

#include "core/data/tensor.h"
#include "core/layers/build.h"

namespace lockstep {
namespace {

// The inputs one after another along an axis: before it the axes of one piece of memory an input.
class Concatenate final : public Layer {
 public:
  // `pieces`: floats of each input from the axis on. Of them `repeats` lie in a sample.
  Concatenate(std::vector<int64_t> pieces, int64_t repeats, Shape shape)
      : pieces_(std::move(pieces)), repeats_(repeats), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  void Forward(const ForwardContext& c) const override { Join(c.tile.samples, c.inputs, c.y); }

  void Infer(const InferContext& c) const override { Join(c.samples, c.inputs, c.y); }

  void Backward(const BackwardContext& c) const override {
    const float* dy = c.dy;
    for (int64_t r = 0; r < c.tile.samples * repeats_; ++r) {
      for (size_t i = 0; i < pieces_.size(); ++i) {
        if (float* dx = c.input_gradients[i]; dx != nullptr) {
          std::copy_n(dy, pieces_[i], dx + r * pieces_[i]);
        }
        dy += pieces_[i];
      }
    }
  }

 private:
  void Join(int64_t samples, std::span<const float* const> inputs, float* y) const {
    for (int64_t r = 0; r < samples * repeats_; ++r) {
      for (size_t i = 0; i < pieces_.size(); ++i) {
        y = std::copy_n(inputs[i] + r * pieces_[i], pieces_[i], y);
      }
    }
  }

  const std::vector<int64_t> pieces_;
  const int64_t repeats_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildConcatenate(const BuildContext& c, v1::Layer* layer) {
  v1::Concatenate& spec = *layer->mutable_concatenate();
  const int rank = c.input().rank();
  if (!spec.has_axis()) spec.set_axis(-1);
  // From here on without the batch.
  const int64_t axis = (spec.axis() < 0 ? spec.axis() + rank + 1 : spec.axis()) - 1;
  if (axis < 0 || axis >= rank) {
    return FieldError(c, "axis",
                      absl::StrCat("must be within [1, ", rank, "] or [-", rank,
                                   ", -1] (0 is the batch), got ", spec.axis()));
  }
  std::vector<int64_t> dims(c.input().dims().begin(), c.input().dims().end());
  dims[axis] = 0;
  std::vector<int64_t> pieces;
  for (const Shape& input : c.inputs) {
    const auto differs = [&](int d) { return d != axis && input[d] != c.input()[d]; };
    bool fits = input.rank() == rank;
    for (int d = 0; fits && d < rank; ++d) fits = !differs(d);
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat(
          c.path, ": needs inputs of one shape but for axis ", spec.axis(), ", but \"", c.name,
          "\" gets ", ShapeString(c.input().dims()), " and ", ShapeString(input.dims())));
    }
    dims[axis] += input[static_cast<int>(axis)];
    pieces.push_back(ElementCount(input.dims().subspan(axis)));
  }
  const int64_t repeats = ElementCount(c.input().dims().first(axis));
  return std::make_unique<Concatenate>(std::move(pieces), repeats, Shape(std::move(dims)));
}

}  // namespace lockstep
