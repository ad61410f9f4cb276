#include <algorithm>

#include "absl/strings/str_join.h"
#include "core/layers/build.h"
#include "core/layers/scale_and_shift.h"

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Ba, Kiros, Hinton, "Layer normalization", 2016: over the last axes of a sample, each position of
// the others by itself. The step keeps the normalised values rather than x, and 1 / sqrt(variance +
// epsilon) of each position behind them.
class LayerNormalization final : public Layer {
 public:
  // The axes from `first` on, counted without the batch.
  LayerNormalization(const v1::LayerNormalization& spec, Shape shape, int first)
      : epsilon_(spec.epsilon()),
        shape_(std::move(shape)),
        parameter_shape_(shape_.dims().begin() + first, shape_.dims().end()),
        columns_(Shape(parameter_shape_).size()),
        positions_(shape_.size() / columns_),
        end_(spec, parameter_shape_, positions_, columns_) {}

  Shape output_shape() const override { return shape_; }
  std::vector<TensorSpec> parameters() const override { return end_.parameters(); }
  LayerTraits traits() const override { return {.finish_reads_dy = end_.finish_reads_dy()}; }
  int64_t saved_bytes(const Capacity& capacity) const override {
    return capacity.samples * (shape_.size() + positions_) * kFloat;
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return end_.SumsBytes(capacity);
  }

  void Forward(const ForwardContext& c) const override {
    Normalize(*c.step.kernels, c.tile.samples, c.x(), c.parameters, Normalized(c), Inverses(c),
              c.y);
  }

  void Infer(const InferContext& c) const override {
    Normalize(*c.kernels, c.samples, c.x(), c.parameters, c.y, nullptr, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    end_.Gather(c, Normalized(c));
    if (c.dx() == nullptr) return;
    c.step.kernels->normalize_rows_backward(c.dy, Normalized(c), c.tile.samples * positions_,
                                            columns_, end_.gamma(c.parameters), Inverses(c),
                                            c.dx());
  }

  void FinishBackward(const BackwardContext& c) const override { end_.Combine(c, Normalized(c)); }

 private:
  void Normalize(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                 std::span<const float* const> parameters, float* normalized, float* inverses,
                 float* y) const {
    kernels.normalize_rows(x, samples * positions_, columns_, epsilon_, end_.gamma(parameters),
                           end_.beta(parameters), normalized, inverses, y);
  }

  // Of the tile.
  float* Normalized(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved) + c.tile.begin * shape_.size();
  }
  float* Inverses(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved) + c.step.batch->samples * shape_.size() +
           c.tile.begin * positions_;
  }

  const double epsilon_;
  const Shape shape_;
  const std::vector<int64_t> parameter_shape_;
  const int64_t columns_;
  const int64_t positions_;
  const ScaleAndShift end_;
};

}  // namespace

LayerOr BuildLayerNormalization(const BuildContext& c, v1::Layer* layer) {
  v1::LayerNormalization& spec = *layer->mutable_layer_normalization();
  if (spec.axis().empty()) spec.add_axis(-1);
  const int64_t rank = c.input().rank() + 1;
  std::vector<int64_t> axes;
  for (int64_t axis : spec.axis()) axes.push_back(axis < 0 ? axis + rank : axis);
  std::sort(axes.begin(), axes.end());
  bool valid = axes.front() >= 1 && axes.back() == rank - 1;
  for (size_t i = 1; valid && i < axes.size(); ++i) valid = axes[i] == axes[i - 1] + 1;
  if (!valid) {
    return FieldError(
        c, "axis",
        absl::StrCat("must be consecutive axes up to the last, within [1, ", rank - 1, "] or [",
                     1 - rank, ", -1], got [", absl::StrJoin(spec.axis(), ", "), "]"));
  }
  if (auto s = CheckNormalization(c, &spec); !s.ok()) return s;
  return std::make_unique<LayerNormalization>(spec, c.input(), static_cast<int>(axes.front()) - 1);
}

}  // namespace lockstep
