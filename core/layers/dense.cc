#include <Eigen/Core>
#include <utility>

#include "core/layers/build.h"
#include "core/layers/row_sums.h"
#include "core/layers/rows.h"
#include "core/layers/segments.h"
#include "core/layers/weight_gradient.h"

namespace lockstep {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::vector<kernels::Segment> DenseSegments(int64_t depth) {
  SegmentList segments(kernels::kDenseChunk);
  segments.Add(0, 0, depth);
  return std::move(segments).Finish();
}

// y = activation(x * kernel + bias): x [N, in], kernel [in, units], y [N, units].
class Dense final : public Layer {
 public:
  Dense(const v1::Dense& spec, kernels::Activation activation, int64_t in)
      : spec_(spec),
        activation_(activation),
        in_(in),
        units_(spec.units()),
        forward_segments_(DenseSegments(in_)),
        backward_segments_(DenseSegments(units_)),
        gradient_{.slice_rows = in_,
                  .columns = units_,
                  .x_sample = in_,
                  .chunk_samples = kernels::kDenseChunk} {}

  Shape output_shape() const override { return {units_}; }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list = {{.name = "kernel",
                                     .shape = {in_, units_},
                                     .initializer = spec_.kernel_initializer(),
                                     .fan_in = in_,
                                     .fan_out = units_}};
    if (spec_.use_bias()) {
      list.push_back({.name = "bias",
                      .shape = {units_},
                      .initializer = spec_.bias_initializer(),
                      .fan_in = units_,
                      .fan_out = units_,
                      .gradient = GradientKind::kSum});
    }
    return list;
  }

  bool ends_in_softmax() const override { return activation_ == kernels::Activation::kSoftmax; }

  int64_t scratch_bytes(const Capacity& capacity) const override {
    return std::max({in_ * units_ * static_cast<int64_t>(sizeof(float)),  // kernel transposed
                     RowSumsScratchBytes(capacity, 1, units_),
                     WeightGradientScratchBytes(gradient_, capacity)});
  }

  void Forward(const ForwardContext& c) const override {
    ParallelRows(*c.step.pool, c.step.batch->samples, 8, [&](int64_t begin, int64_t end) {
      ForwardRows(*c.step.kernels, c.x, c.y, c.parameters, c.logits, begin, end);
    });
  }

  void Infer(const InferContext& c) const override {
    ForwardRows(*c.kernels, c.x, c.y, c.parameters, c.logits, 0, c.samples);
  }

  void Backward(const BackwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t samples = step.batch->samples;
    if (!c.logits && activation_ != kernels::Activation::kLinear) {
      ParallelRows(*step.pool, samples, 32, [&](int64_t begin, int64_t end) {
        step.kernels->activate_backward(activation_, end - begin, units_, c.y + begin * units_,
                                        c.dy + begin * units_);
      });
    }
    WeightGradient(gradient_, step, c.x, c.dy, c.scratch, c.gradients[0], c.gradient_node_stride);
    if (spec_.use_bias()) {
      NodeSums(step, c.dy, nullptr, nullptr, 1, units_, c.scratch, c.sums[1], c.sum_node_stride);
    }
    if (c.dx == nullptr) return;
    float* transposed = reinterpret_cast<float*>(c.scratch);  // [units, in]
    Eigen::Map<Matrix>(transposed, units_, in_) =
        Eigen::Map<const Matrix>(c.parameters[0], in_, units_).transpose();
    ParallelRows(*step.pool, samples, 8, [&](int64_t begin, int64_t end) {
      step.kernels->contract_rows({.a = {c.dy, 1, units_, 0},
                                   .b = {transposed, in_, in_},
                                   .segments = backward_segments_.data(),
                                   .segment_count = std::ssize(backward_segments_),
                                   .y = {c.dx, 1, in_, 0},
                                   .bias = nullptr,
                                   .relu = false},
                                  begin, end);
    });
  }

 private:
  void ForwardRows(const kernels::KernelTable& kernels, const float* x, float* y,
                   std::span<const float* const> parameters, bool logits, int64_t begin,
                   int64_t end) const {
    kernels.contract_rows({.a = {x, 1, in_, 0},
                           .b = {parameters[0], units_, units_},
                           .segments = forward_segments_.data(),
                           .segment_count = std::ssize(forward_segments_),
                           .y = {y, 1, units_, 0},
                           .bias = spec_.use_bias() ? parameters[1] : nullptr,
                           .relu = activation_ == kernels::Activation::kRelu},
                          begin, end);
    if (logits || activation_ == kernels::Activation::kRelu ||
        activation_ == kernels::Activation::kLinear) {
      return;
    }
    kernels.activate(activation_, end - begin, units_, y + begin * units_);
  }

  const v1::Dense spec_;
  const kernels::Activation activation_;
  const int64_t in_;
  const int64_t units_;
  const std::vector<kernels::Segment> forward_segments_;
  const std::vector<kernels::Segment> backward_segments_;
  const WeightGradientShape gradient_;
};

}  // namespace

LayerOr BuildDense(const BuildContext& c, v1::Layer* layer) {
  v1::Dense& spec = *layer->mutable_dense();
  if (c.input.rank() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(c.path, ": needs input [N, features], but \"", c.name, "\" gets ",
                     c.input.rank(), " dimensions a sample; put a flatten layer before it"));
  }
  if (spec.units() < 1) {
    return FieldError(c, "units", absl::StrCat("must be >= 1, got ", spec.units()));
  }
  if (spec.units() > kMaxElements / c.input.size()) {
    return FieldError(c, "units",
                      absl::StrCat("kernel [", c.input.size(), ", ", spec.units(),
                                   "] is too large; at most ", kMaxElements, " values"));
  }
  auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return std::make_unique<Dense>(spec, *activation, c.input.size());
}

}  // namespace lockstep
