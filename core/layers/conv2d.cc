#include <algorithm>
#include <bit>

#include "core/data/tensor.h"
#include "core/layers/chunk_sums.h"
#include "core/layers/convolution_spec.h"
#include "core/layers/fused_activation.h"
#include "core/layers/row_sums.h"

namespace lockstep {
namespace {

using kernels::ConvolutionAxis;

constexpr int64_t kFloat = sizeof(float);

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// y = activation(x (*) kernel + bias): x [N, H, W, in], kernel [kh, kw, in / groups, filters],
// y [N, OH, OW, filters]. kernels::Convolution says how that becomes contractions.
class Conv2D final : public Layer {
 public:
  explicit Conv2D(ConvolutionSettings settings)
      : settings_(std::move(settings)),
        convolution_(settings_.h, settings_.w, settings_.in, settings_.filters, settings_.groups),
        activation_(settings_.activation, settings_.output),
        chunk_samples_(static_cast<int64_t>(std::bit_ceil(
            static_cast<uint64_t>(CeilDiv(kernels::kConvGradientRows, positions()))))) {}

  Shape output_shape() const override { return settings_.output; }

  LayerTraits traits() const override {
    const bool finish_reads_dy = has_bias() && positions() == 1;
    LayerTraits traits = {.backward_reads_x = true,
                          .dx_may_be_x = !finish_reads_dy,
                          .adds_gradient = true,
                          .finish_reads_dy = finish_reads_dy};
    activation_.AddTraits(&traits);
    return traits;
  }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list = {settings_.kernel};
    if (has_bias()) list.push_back(*settings_.bias);
    return list;
  }

  int64_t chunk_samples() const override { return chunk_samples_; }

  // An operand a group, then what they point to.
  int64_t packed_bytes(Pass) const override {
    return OperandsBytes() + convolution_.packed_floats() * kFloat;
  }
  int64_t saved_bytes(const Capacity& capacity) const override {
    return activation_.saved_bytes(capacity);
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return ChunkSumsBytes(capacity, chunk_samples_, kernel_size()) +
           (has_bias() ? RowSumsBytes(capacity, positions(), filters()) : 0);
  }
  int64_t scratch_bytes(int64_t tile_samples) const override {
    return std::max(SegmentsBytes(), convolution_.gradient_scratch_floats(tile_samples) * kFloat);
  }
  int64_t infer_scratch_bytes(int64_t) const override { return SegmentsBytes(); }

  void Pack(const PackContext& c) const override {
    auto* operands = reinterpret_cast<kernels::RightOperand*>(c.packed);
    float* packed = reinterpret_cast<float*>(c.packed + OperandsBytes());
    if (c.pass == Pass::kBackward) {
      convolution_.PackInputGradient(*c.kernels, c.parameters[0], packed, operands);
    } else {
      convolution_.PackForward(*c.kernels, c.parameters[0], packed, operands);
    }
  }

  void Forward(const ForwardContext& c) const override {
    ForwardImages(*c.step.kernels, c.tile.samples, c.x(), c.parameters, c.packed, c.relu, c.scratch,
                  activation_.Input(c));
    activation_.Forward(c);
  }

  void Infer(const InferContext& c) const override {
    ForwardImages(*c.kernels, c.samples, c.x(), c.parameters, c.packed, c.relu, c.scratch, c.y);
    activation_.Infer(c);
  }

  void Backward(const BackwardContext& c) const override {
    const kernels::KernelTable& kernels = *c.step.kernels;
    activation_.Backward(c);
    if (c.trainable && has_bias()) {
      GatherSums(kernels, c.tile, c.dy, nullptr, {nullptr}, positions(), filters(), BiasSums(c));
    }
    if (c.trainable) KernelGradient(c);
    if (c.dx() == nullptr) return;
    convolution_.InputGradient(kernels, Operands(c.packed), c.tile.samples, c.dy, c.adds,
                               reinterpret_cast<kernels::Segment*>(c.scratch), c.dx());
  }

  void FinishBackward(const BackwardContext& c) const override {
    CombineChunkSums(c.step, chunk_samples_, kernel_size(), c.sums, c.gradients[0],
                     c.gradient_node_stride);
    if (!has_bias()) return;
    CombineNodeSums(c.step, c.dy, nullptr, 1, positions(), filters(), BiasSums(c),
                    c.parameter_sums[1], c.sum_node_stride);
  }

 private:
  void ForwardImages(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                     std::span<const float* const> parameters, const std::byte* packed, bool relu,
                     std::byte* scratch, float* y) const {
    convolution_.Forward(
        kernels, Operands(packed), samples, x, parameters.size() > 1 ? parameters[1] : nullptr,
        relu || activation_.is_relu(), reinterpret_cast<kernels::Segment*>(scratch), y);
  }

  // Adds the tile's samples to the sums of their chunks.
  void KernelGradient(const BackwardContext& c) const {
    const ChunkSums chunks(*c.step.batch, c.tile.shard, chunk_samples_, kernel_size(), c.sums);
    for (int64_t n = 0; n < c.tile.samples;) {
      const ChunkSums::Part part = chunks.Find(c.tile.begin + n);
      const int64_t end = std::min(c.tile.samples, part.end - c.tile.begin);
      convolution_.KernelGradient(*c.step.kernels, end - n, c.x + n * in_size(),
                                  c.dy + n * settings_.output.size(),
                                  /*continues=*/c.tile.begin + n > part.begin,
                                  reinterpret_cast<float*>(c.scratch), part.sum);
      n = end;
    }
  }

  static const kernels::RightOperand* Operands(const std::byte* packed) {
    return reinterpret_cast<const kernels::RightOperand*>(packed);
  }

  std::byte* BiasSums(const BackwardContext& c) const {
    const Capacity here = {c.step.batch->samples, c.step.batch->shards()};
    return c.sums + ChunkSumsBytes(here, chunk_samples_, kernel_size());
  }

  bool has_bias() const { return settings_.bias.has_value(); }
  int64_t filters() const { return settings_.filters; }
  int64_t positions() const { return settings_.output.positions(); }
  int64_t in_size() const { return settings_.h.in * settings_.w.in * settings_.in; }
  int64_t kernel_size() const { return ElementCount(settings_.kernel.shape); }
  int64_t OperandsBytes() const {
    const auto bytes = static_cast<int64_t>(sizeof(kernels::RightOperand));
    return CeilDiv(settings_.groups * bytes, 64) * 64;
  }
  int64_t SegmentsBytes() const {
    return convolution_.segments() * static_cast<int64_t>(sizeof(kernels::Segment));
  }

  const ConvolutionSettings settings_;
  const kernels::Convolution convolution_;
  const FusedActivation activation_;
  const int64_t chunk_samples_;
};

}  // namespace

std::unique_ptr<const Layer> MakeConvolution(ConvolutionSettings settings) {
  return std::make_unique<Conv2D>(std::move(settings));
}

LayerOr BuildConv2D(const BuildContext& c, v1::Layer* layer) {
  v1::Conv2D& spec = *layer->mutable_conv2d();
  if (auto s = CheckImage(c); !s.ok()) return s;
  if (auto s = CheckFilters(c, spec.filters()); !s.ok()) return s;
  const auto axes = CheckImageAxes(c, &spec);
  if (!axes.ok()) return axes.status();
  if (!spec.has_groups()) spec.set_groups(1);
  if (auto s = CheckGroups(c, spec.filters(), spec.groups()); !s.ok()) return s;
  const ConvolutionAxis& h = (*axes)[0];
  const ConvolutionAxis& w = (*axes)[1];
  const int64_t in = c.input()[2];
  const std::vector<int64_t> shape = {h.kernel, w.kernel, in / spec.groups(), spec.filters()};
  if (auto s = CheckKernelSize(c, "filters", shape); !s.ok()) return s;
  const auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return MakeConvolution(
      {.h = h,
       .w = w,
       .in = in,
       .filters = spec.filters(),
       .groups = spec.groups(),
       .activation = *activation,
       .output = {h.out, w.out, spec.filters()},
       .kernel = KernelSpec("kernel", shape, spec.kernel_initializer(), spec.kernel_regularizer()),
       .bias = BiasIf(spec.use_bias(), spec.filters(), spec.bias_initializer(),
                      spec.bias_regularizer())});
}

}  // namespace lockstep
