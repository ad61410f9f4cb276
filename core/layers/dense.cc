#include <algorithm>
#include <span>

#include "core/layers/build.h"
#include "core/layers/fused_activation.h"
#include "core/layers/row_sums.h"
#include "core/layers/weight_gradient.h"

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

int64_t Chunks(int64_t depth) { return (depth + kernels::kDenseChunk - 1) / kernels::kDenseChunk; }

int64_t SegmentsBytes(int64_t depth) {
  return Chunks(depth) * static_cast<int64_t>(sizeof(kernels::Segment));
}

// All k of a contraction, a chunk each, written to `memory`.
std::span<const kernels::Segment> Segments(int64_t depth, std::byte* memory) {
  auto* segments = reinterpret_cast<kernels::Segment*>(memory);
  for (int64_t i = 0; i < Chunks(depth); ++i) {
    const int64_t k = i * kernels::kDenseChunk;
    segments[i] = {k, k, std::min(kernels::kDenseChunk, depth - k), /*ends_chunk=*/true};
  }
  return {segments, static_cast<size_t>(Chunks(depth))};
}

Shape WithChannels(const Shape& shape, int64_t channels) {
  std::vector<int64_t> dims(shape.dims().begin(), shape.dims().end());
  dims.back() = channels;
  return Shape(std::move(dims));
}

// y = activation(x * kernel + bias): x [N, ..., in], kernel [in, units], y [N, ..., units]. Each
// position of a sample is a row.
class Dense final : public Layer {
 public:
  Dense(const v1::Dense& spec, kernels::ActivationFunction activation, const Shape& input)
      : spec_(spec),
        in_(input.channels()),
        units_(spec.units()),
        output_shape_(WithChannels(input, units_)),
        activation_(activation, output_shape_) {}

  Shape output_shape() const override { return output_shape_; }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list = {{.name = "kernel",
                                     .shape = {in_, units_},
                                     .initializer = spec_.kernel_initializer(),
                                     .fan_in = in_,
                                     .fan_out = units_,
                                     .regularizer = spec_.kernel_regularizer()}};
    if (spec_.use_bias()) {
      list.push_back({.name = "bias",
                      .shape = {units_},
                      .initializer = spec_.bias_initializer(),
                      .fan_in = units_,
                      .fan_out = units_,
                      .gradient = GradientKind::kSum,
                      .regularizer = spec_.bias_regularizer()});
    }
    return list;
  }

  LayerTraits traits() const override {
    LayerTraits traits = {.backward_reads_x = true, .adds_gradient = true, .finish_reads_dy = true};
    activation_.AddTraits(&traits);
    return traits;
  }

  // The kernel as a right operand, for Backward transposed, and what it points to.
  int64_t packed_bytes(Pass pass) const override {
    return kOperandBytes + kFloat * (pass == Pass::kBackward ? kernels::PackedFloats(units_, in_)
                                                             : kernels::PackedFloats(in_, units_));
  }
  int64_t scratch_bytes(int64_t) const override { return SegmentsBytes(std::max(in_, units_)); }
  int64_t infer_scratch_bytes(int64_t) const override { return SegmentsBytes(in_); }
  int64_t saved_bytes(const Capacity& capacity) const override {
    return activation_.saved_bytes(capacity);
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return DenseWeightGradientBytes(capacity, positions()) +
           (spec_.use_bias() ? RowSumsBytes(capacity, positions(), units_) : 0);
  }

  void Pack(const PackContext& c) const override {
    float* packed = reinterpret_cast<float*>(c.packed + kOperandBytes);
    *reinterpret_cast<kernels::RightOperand*>(c.packed) =
        c.pass == Pass::kBackward
            ? c.kernels->pack_transposed(c.parameters[0], units_, 1, units_, in_, packed)
            : c.kernels->pack(c.parameters[0], units_, in_, units_, packed);
  }

  void Forward(const ForwardContext& c) const override {
    ForwardRows(*c.step.kernels, c.tile.samples, c.x(), activation_.Input(c), c.parameters,
                c.packed, c.scratch, c.relu);
    activation_.Forward(c);
  }

  void Infer(const InferContext& c) const override {
    ForwardRows(*c.kernels, c.samples, c.x(), c.y, c.parameters, c.packed, c.scratch, c.relu);
    activation_.Infer(c);
  }

  void Backward(const BackwardContext& c) const override {
    activation_.Backward(c);
    if (c.trainable && spec_.use_bias()) {
      GatherSums(*c.step.kernels, c.tile, c.dy, nullptr, {nullptr}, positions(), units_,
                 BiasSums(c));
    }
    if (c.dx() == nullptr) return;
    const std::span<const kernels::Segment> segments = Segments(units_, c.scratch);
    c.step.kernels->contract_rows({.a = {c.dy, 1, units_, 0},
                                   .b = Operand(c.packed),
                                   .segments = segments.data(),
                                   .segment_count = std::ssize(segments),
                                   .y = {c.dx(), 1, in_, 0},
                                   .bias = nullptr,
                                   .relu = false,
                                   .adds = c.adds},
                                  0, c.tile.samples * positions());
  }

  void FinishBackward(const BackwardContext& c) const override {
    DenseWeightGradient(c.step, positions(), in_, c.x, units_, c.dy, c.sums, c.gradients[0],
                        c.gradient_node_stride);
    if (!spec_.use_bias()) return;
    CombineNodeSums(c.step, c.dy, nullptr, 1, positions(), units_, BiasSums(c), c.parameter_sums[1],
                    c.sum_node_stride);
  }

 private:
  static constexpr int64_t kOperandBytes = 64;
  static_assert(sizeof(kernels::RightOperand) <= kOperandBytes);
  static const kernels::RightOperand& Operand(const std::byte* packed) {
    return *reinterpret_cast<const kernels::RightOperand*>(packed);
  }

  void ForwardRows(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
                   std::span<const float* const> parameters, const std::byte* packed,
                   std::byte* scratch, bool relu) const {
    const std::span<const kernels::Segment> segments = Segments(in_, scratch);
    kernels.contract_rows({.a = {x, 1, in_, 0},
                           .b = Operand(packed),
                           .segments = segments.data(),
                           .segment_count = std::ssize(segments),
                           .y = {y, 1, units_, 0},
                           .bias = parameters.size() > 1 ? parameters[1] : nullptr,
                           .relu = relu || activation_.is_relu()},
                          0, samples * positions());
  }

  std::byte* BiasSums(const BackwardContext& c) const {
    const Capacity here = {c.step.batch->samples, c.step.batch->shards()};
    return c.sums + DenseWeightGradientBytes(here, positions());
  }

  int64_t positions() const { return output_shape_.positions(); }

  const v1::Dense spec_;
  const int64_t in_;
  const int64_t units_;
  const Shape output_shape_;
  const FusedActivation activation_;
};

}  // namespace

LayerOr BuildDense(const BuildContext& c, v1::Layer* layer) {
  v1::Dense& spec = *layer->mutable_dense();
  const int64_t in = c.input().channels();
  if (spec.units() < 1) {
    return FieldError(c, "units", absl::StrCat("must be >= 1, got ", spec.units()));
  }
  if (spec.units() > kMaxElements / in) {
    return FieldError(c, "units",
                      absl::StrCat("kernel [", in, ", ", spec.units(), "] is too large; at most ",
                                   kMaxElements, " values"));
  }
  auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return std::make_unique<Dense>(spec, *activation, c.input());
}

}  // namespace lockstep
