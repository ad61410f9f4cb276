#include <algorithm>
#include <bit>

#include "core/kernels/convolution.h"
#include "core/layers/build.h"
#include "core/layers/chunk_sums.h"
#include "core/layers/fused_activation.h"
#include "core/layers/row_sums.h"

namespace lockstep {
namespace {

using kernels::ConvolutionAxis;

constexpr int64_t kFloat = sizeof(float);

// Bounds what a step sets up beside the arithmetic: a tap or a stride's remainder costs a few
// bytes.
constexpr int64_t kMaxExtent = 256;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Pixels from the first tap to the last.
int64_t Extent(int64_t kernel, int64_t dilation) { return (kernel - 1) * dilation + 1; }

// Padding as in Keras: "same" gives ceil(in / stride) outputs, with an odd total of padding's extra
// pixel at the end; otherwise there is none.
ConvolutionAxis MakeAxis(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, bool same) {
  const int64_t extent = Extent(kernel, dilation);
  ConvolutionAxis axis = {.in = in,
                          .out = CeilDiv(in, stride),
                          .kernel = kernel,
                          .stride = stride,
                          .dilation = dilation};
  if (same) {
    axis.pad = std::max<int64_t>(0, (axis.out - 1) * stride + extent - in) / 2;
  } else {
    axis.out = (in - extent) / stride + 1;
  }
  return axis;
}

// y = activation(x (*) kernel + bias): x [N, H, W, in], kernel [kh, kw, in / groups, filters],
// y [N, OH, OW, filters]. kernels::Convolution says how that becomes contractions.
class Conv2D final : public Layer {
 public:
  Conv2D(const v1::Conv2D& spec, kernels::ActivationFunction activation, const ConvolutionAxis& h,
         const ConvolutionAxis& w, int64_t in)
      : spec_(spec),
        convolution_(h, w, in, spec.filters(), spec.groups()),
        in_size_(h.in * w.in * in),
        kernel_shape_{h.kernel, w.kernel, in / spec.groups(), spec.filters()},
        output_shape_{h.out, w.out, spec.filters()},
        activation_(activation, output_shape_),
        chunk_samples_(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(
            CeilDiv(kernels::kConvGradientRows, output_shape_.positions()))))) {}

  Shape output_shape() const override { return output_shape_; }

  LayerTraits traits() const override {
    LayerTraits traits = {.backward_reads_x = true,
                          .adds_gradient = true,
                          .finish_reads_dy = spec_.use_bias() && positions() == 1};
    activation_.AddTraits(&traits);
    return traits;
  }

  std::vector<TensorSpec> parameters() const override {
    const int64_t taps = kernel_shape_[0] * kernel_shape_[1];
    std::vector<TensorSpec> list = {{.name = "kernel",
                                     .shape = kernel_shape_,
                                     .initializer = spec_.kernel_initializer(),
                                     .fan_in = taps * kernel_shape_[2],
                                     .fan_out = taps * filters()}};
    if (spec_.use_bias()) {
      list.push_back({.name = "bias",
                      .shape = {filters()},
                      .initializer = spec_.bias_initializer(),
                      .fan_in = filters(),
                      .fan_out = filters(),
                      .gradient = GradientKind::kSum});
    }
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
           (spec_.use_bias() ? RowSumsBytes(capacity, positions(), filters()) : 0);
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
    if (spec_.use_bias()) {
      GatherSums(kernels, c.tile, c.dy, nullptr, nullptr, positions(), filters(), BiasSums(c));
    }
    KernelGradient(c);
    if (c.dx() == nullptr) return;
    convolution_.InputGradient(kernels, Operands(c.packed), c.tile.samples, c.dy, c.adds,
                               reinterpret_cast<kernels::Segment*>(c.scratch), c.dx());
  }

  void FinishBackward(const BackwardContext& c) const override {
    CombineChunkSums(c.step, chunk_samples_, kernel_size(), c.sums, c.gradients[0],
                     c.gradient_node_stride);
    if (!spec_.use_bias()) return;
    CombineNodeSums(c.step, c.dy, nullptr, nullptr, 1, positions(), filters(), BiasSums(c),
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
      convolution_.KernelGradient(*c.step.kernels, end - n, c.x + n * in_size_,
                                  c.dy + n * output_shape_.size(),
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

  int64_t filters() const { return output_shape_.channels(); }
  int64_t positions() const { return output_shape_.positions(); }
  int64_t kernel_size() const {
    return kernel_shape_[0] * kernel_shape_[1] * kernel_shape_[2] * kernel_shape_[3];
  }
  int64_t OperandsBytes() const {
    const auto bytes = static_cast<int64_t>(sizeof(kernels::RightOperand));
    return CeilDiv(spec_.groups() * bytes, 64) * 64;
  }
  int64_t SegmentsBytes() const {
    return convolution_.segments() * static_cast<int64_t>(sizeof(kernels::Segment));
  }

  const v1::Conv2D spec_;
  const kernels::Convolution convolution_;
  const int64_t in_size_;  // floats of an input
  const std::vector<int64_t> kernel_shape_;
  const Shape output_shape_;
  const FusedActivation activation_;
  const int64_t chunk_samples_;
};

}  // namespace

LayerOr BuildConv2D(const BuildContext& c, v1::Layer* layer) {
  v1::Conv2D& spec = *layer->mutable_conv2d();
  if (auto s = CheckImage(c); !s.ok()) return s;
  if (spec.filters() < 1) {
    return FieldError(c, "filters", absl::StrCat("must be >= 1, got ", spec.filters()));
  }
  if (spec.kernel_size().empty()) {
    return FieldError(c, "kernel_size", "is required: [height, width], or one number");
  }
  auto kernel = ParsePair(c, "kernel_size", spec.mutable_kernel_size(), {1, 1}, kMaxExtent);
  if (!kernel.ok()) return kernel.status();
  auto strides = ParsePair(c, "strides", spec.mutable_strides(), {1, 1}, kMaxExtent);
  if (!strides.ok()) return strides.status();
  auto dilation = ParsePair(c, "dilation_rate", spec.mutable_dilation_rate(), {1, 1}, kMaxExtent);
  if (!dilation.ok()) return dilation.status();
  if (spec.padding().empty()) spec.set_padding("valid");
  if (spec.padding() != "valid" && spec.padding() != "same") {
    return FieldError(c, "padding",
                      absl::StrCat("must be valid or same; got \"", spec.padding(), "\""));
  }
  const bool same = spec.padding() == "same";
  const int64_t height = Extent(kernel->height, dilation->height);
  const int64_t width = Extent(kernel->width, dilation->width);
  const std::string covers = height == kernel->height && width == kernel->width
                                 ? ""
                                 : absl::StrCat(", dilated to [", height, ", ", width, "] pixels,");
  if (!same && (height > c.input()[0] || width > c.input()[1])) {
    return FieldError(c, "kernel_size",
                      absl::StrCat("[", kernel->height, ", ", kernel->width, "]", covers,
                                   " does not fit the input [", c.input()[0], ", ", c.input()[1],
                                   ", ", c.input()[2], "] with padding \"valid\""));
  }
  // A larger kernel than the padded image could ever fill is a mistake, and costs memory.
  if (height > 2 * c.input()[0] + 1 || width > 2 * c.input()[1] + 1) {
    return FieldError(c, "kernel_size",
                      absl::StrCat("[", kernel->height, ", ", kernel->width, "]", covers,
                                   " is more than twice the input [", c.input()[0], ", ",
                                   c.input()[1], ", ", c.input()[2], "]"));
  }
  const int64_t in = c.input()[2];
  if (!spec.has_groups()) spec.set_groups(1);
  if (spec.groups() < 1 || in % spec.groups() != 0 || spec.filters() % spec.groups() != 0) {
    return FieldError(c, "groups",
                      absl::StrCat("must be >= 1 and divide the ", in, " input channels and the ",
                                   spec.filters(), " filters; got ", spec.groups()));
  }
  const int64_t group_in = in / spec.groups();
  if (spec.filters() > kMaxElements / kernel->height / kernel->width / group_in) {
    return FieldError(
        c, "filters",
        absl::StrCat("kernel [", kernel->height, ", ", kernel->width, ", ", group_in, ", ",
                     spec.filters(), "] is too large; at most ", kMaxElements, " values"));
  }
  auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return std::make_unique<Conv2D>(
      spec, *activation,
      MakeAxis(c.input()[0], kernel->height, strides->height, dilation->height, same),
      MakeAxis(c.input()[1], kernel->width, strides->width, dilation->width, same), in);
}

}  // namespace lockstep
