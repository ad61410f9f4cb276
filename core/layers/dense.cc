#include <span>

#include "core/layers/build.h"
#include "core/layers/packed.h"
#include "core/layers/row_sums.h"
#include "core/layers/weight_gradient.h"

namespace lockstep {
namespace {

int64_t SegmentsBytes(int64_t depth) {
  return SegmentWriter::Most(1, depth, kernels::kDenseChunk) *
         static_cast<int64_t>(sizeof(kernels::Segment));
}

// All k of a contraction, written to `memory`.
std::span<const kernels::Segment> Segments(int64_t depth, std::byte* memory) {
  SegmentWriter writer(kernels::kDenseChunk, reinterpret_cast<kernels::Segment*>(memory));
  writer.Add(0, 0, depth);
  return writer.Finish();
}

// y = activation(x * kernel + bias): x [N, in], kernel [in, units], y [N, units].
class Dense final : public Layer {
 public:
  Dense(const v1::Dense& spec, kernels::Activation activation, int64_t in)
      : spec_(spec), activation_(activation), in_(in), units_(spec.units()) {}

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

  LayerTraits traits() const override {
    return {.backward_reads_x = true,
            .backward_reads_y = activation_ != kernels::Activation::kLinear,
            .overwrites_dy = activation_ != kernels::Activation::kLinear,
            .finish_reads_dy = true,
            .ends_in_softmax = activation_ == kernels::Activation::kSoftmax,
            .absorbs_affine = activation_ == kernels::Activation::kLinear};
  }

  // The kernel, for Backward transposed.
  int64_t packed_bytes(Pass pass) const override {
    return pass == Pass::kBackward ? PackedOperandBytes(units_, in_)
                                   : PackedOperandBytes(in_, units_);
  }
  int64_t scratch_bytes(int64_t) const override { return SegmentsBytes(std::max(in_, units_)); }
  int64_t infer_scratch_bytes(int64_t) const override { return SegmentsBytes(in_); }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return DenseWeightGradientBytes(capacity) +
           (spec_.use_bias() ? RowSumsBytes(capacity, 1, units_) : 0);
  }

  void Pack(const PackContext& c) const override {
    const bool backward = c.pass == Pass::kBackward;
    PackOperand(*c.kernels, c.parameters[0], units_, /*transposed=*/backward,
                backward ? units_ : in_, backward ? in_ : units_, c.packed);
  }

  void Forward(const ForwardContext& c) const override {
    ForwardRows(*c.step.kernels, c.tile.samples, c.x(), c.y, c.parameters, c.packed, c.scratch,
                c.logits);
  }

  void Infer(const InferContext& c) const override {
    ForwardRows(*c.kernels, c.samples, c.x(), c.y, c.parameters, c.packed, c.scratch, c.logits);
  }

  void Backward(const BackwardContext& c) const override {
    if (!c.logits && activation_ != kernels::Activation::kLinear) {
      c.step.kernels->activate_backward(activation_, c.tile.samples, units_, c.y, c.dy, c.dy);
    }
    if (c.dx() == nullptr) return;
    const std::byte* packed = c.packed;
    const kernels::RightOperand& kernel = TakeOperand(packed, units_, in_);
    const std::span<const kernels::Segment> segments = Segments(units_, c.scratch);
    c.step.kernels->contract_rows({.a = {c.dy, 1, units_, 0},
                                   .b = kernel,
                                   .segments = segments.data(),
                                   .segment_count = std::ssize(segments),
                                   .y = {c.dx(), 1, in_, 0},
                                   .bias = nullptr,
                                   .relu = false},
                                  0, c.tile.samples);
  }

  void FinishBackward(const BackwardContext& c) const override {
    DenseWeightGradient(c.step, in_, c.x, units_, c.dy, c.sums, c.gradients[0],
                        c.gradient_node_stride);
    if (!spec_.use_bias()) return;
    const Capacity here = {c.step.batch->samples, c.step.batch->shards()};
    CombineNodeSums(c.step, c.dy, nullptr, nullptr, 1, 1, units_,
                    c.sums + DenseWeightGradientBytes(here), c.parameter_sums[1],
                    c.sum_node_stride);
  }

 private:
  void ForwardRows(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
                   std::span<const float* const> parameters, const std::byte* packed,
                   std::byte* scratch, bool logits) const {
    const kernels::RightOperand& kernel = TakeOperand(packed, in_, units_);
    const std::span<const kernels::Segment> segments = Segments(in_, scratch);
    kernels.contract_rows({.a = {x, 1, in_, 0},
                           .b = kernel,
                           .segments = segments.data(),
                           .segment_count = std::ssize(segments),
                           .y = {y, 1, units_, 0},
                           .bias = parameters.size() > 1 ? parameters[1] : nullptr,
                           .relu = activation_ == kernels::Activation::kRelu},
                          0, samples);
    if (logits || activation_ == kernels::Activation::kRelu ||
        activation_ == kernels::Activation::kLinear) {
      return;
    }
    kernels.activate(activation_, samples, units_, y, y);
  }

  const v1::Dense spec_;
  const kernels::Activation activation_;
  const int64_t in_;
  const int64_t units_;
};

}  // namespace

LayerOr BuildDense(const BuildContext& c, v1::Layer* layer) {
  v1::Dense& spec = *layer->mutable_dense();
  if (c.input().rank() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(c.path, ": needs input [N, features], but \"", c.name, "\" gets ",
                     c.input().rank(), " dimensions a sample; put a flatten layer before it"));
  }
  if (spec.units() < 1) {
    return FieldError(c, "units", absl::StrCat("must be >= 1, got ", spec.units()));
  }
  if (spec.units() > kMaxElements / c.input().size()) {
    return FieldError(c, "units",
                      absl::StrCat("kernel [", c.input().size(), ", ", spec.units(),
                                   "] is too large; at most ", kMaxElements, " values"));
  }
  auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return std::make_unique<Dense>(spec, *activation, c.input().size());
}

}  // namespace lockstep
