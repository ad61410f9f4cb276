#include <Eigen/Core>
#include <algorithm>
#include <utility>

#include "core/layers/build.h"
#include "core/layers/row_sums.h"
#include "core/layers/rows.h"
#include "core/layers/segments.h"
#include "core/layers/weight_gradient.h"

namespace lockstep {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kFloat = sizeof(float);

// Bounds what Build and each step set up beside the arithmetic: a kernel row, a tap or a stride's
// remainder costs a few bytes.
constexpr int64_t kMaxExtent = 256;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One spatial axis of a convolution.
struct Axis {
  int64_t in;
  int64_t out;
  int64_t kernel;
  int64_t stride;
  int64_t pad_before;
  int64_t pad_after;

  static Axis Make(int64_t in, int64_t kernel, int64_t stride, bool same) {
    if (!same) return {in, (in - kernel) / stride + 1, kernel, stride, 0, 0};
    const int64_t out = CeilDiv(in, stride);
    const int64_t pad = std::max<int64_t>(0, (out - 1) * stride + kernel - in);
    return {in, out, kernel, stride, pad / 2, pad - pad / 2};
  }

  int64_t padded() const { return pad_before + in + pad_after; }

  // For the input gradient dy is padded with zeros, so that every tap of every pixel reads
  // something.
  int64_t gradient_before() const { return CeilDiv(kernel - 1, stride); }
  int64_t gradient_padded() const {
    return gradient_before() + std::max(out, (in - 1 + pad_before) / stride + 1);
  }
};

// The input pixels first, first + stride, ... along one axis see the same taps: those k with
// (pixel + pad_before - k) a multiple of the stride.
struct PixelClass {
  int64_t first;
  int64_t count;
  int64_t first_tap;

  static PixelClass Make(const Axis& axis, int64_t remainder) {
    const int64_t first = (remainder - axis.pad_before % axis.stride + axis.stride) % axis.stride;
    const int64_t count = first < axis.in ? CeilDiv(axis.in - first, axis.stride) : 0;
    return {first, count, remainder};
  }

  // Line of the padded dy that tap k of the first pixel reads.
  int64_t Line(const Axis& axis, int64_t k) const {
    return (first + axis.pad_before - k) / axis.stride + axis.gradient_before();
  }
};

// Copies one image into the middle of a larger, zeroed one.
void PadImage(const float* src, int64_t height, int64_t line, float* dst, int64_t dst_height,
              int64_t dst_line, int64_t top, int64_t left) {
  std::fill_n(dst, dst_height * dst_line, 0.0f);
  for (int64_t i = 0; i < height; ++i) {
    std::copy_n(src + i * line, line, dst + (top + i) * dst_line + left);
  }
}

// y = activation(x (*) kernel + bias): x [N, H, W, in], kernel [kh, kw, in, filters], y [N, OH, OW,
// filters]. No patches are materialised: a kernel row's kw * in values lie together in x.
class Conv2D final : public Layer {
 public:
  Conv2D(const v1::Conv2D& spec, kernels::Activation activation, Axis h, Axis w, int64_t in)
      : spec_(spec),
        activation_(activation),
        h_(h),
        w_(w),
        in_(in),
        filters_(spec.filters()),
        padded_(h.pad_before + h.pad_after + w.pad_before + w.pad_after > 0),
        forward_segments_(MakeForwardSegments()),
        gradient_{.slices = h.kernel,
                  .slice_rows = w.kernel * in,
                  .slice_x = w.padded() * in,
                  .columns = filters_,
                  .lines = h.out,
                  .line_rows = w.out,
                  .x_sample = h.padded() * w.padded() * in,
                  .x_line = h.stride * w.padded() * in,
                  .x_row = w.stride * in,
                  .chunk_samples = CeilDiv(kernels::kConvGradientRows, h.out * w.out)} {}

  Shape output_shape() const override { return {h_.out, w_.out, filters_}; }

  std::vector<TensorSpec> parameters() const override {
    const int64_t taps = h_.kernel * w_.kernel;
    std::vector<TensorSpec> list = {{.name = "kernel",
                                     .shape = {h_.kernel, w_.kernel, in_, filters_},
                                     .initializer = spec_.kernel_initializer(),
                                     .fan_in = taps * in_,
                                     .fan_out = taps * filters_}};
    if (spec_.use_bias()) {
      list.push_back({.name = "bias",
                      .shape = {filters_},
                      .initializer = spec_.bias_initializer(),
                      .fan_in = filters_,
                      .fan_out = filters_,
                      .gradient = GradientKind::kSum});
    }
    return list;
  }

  // The padded batch: the weight gradient reads it again.
  int64_t saved_bytes(const Capacity& capacity) const override {
    return padded_ ? capacity.samples * padded_size() * kFloat : 0;
  }

  int64_t scratch_bytes(const Capacity& capacity) const override {
    return std::max({kernel_size() * kFloat + capacity.threads * gradient_image_bytes(),
                     RowSumsScratchBytes(capacity, positions(), filters_),
                     WeightGradientScratchBytes(gradient_, capacity)});
  }

  int64_t infer_scratch_bytes() const override { return padded_ ? padded_size() * kFloat : 0; }

  void Forward(const ForwardContext& c) const override {
    const float* kernel = c.parameters[0];
    c.step.pool->ParallelFor(c.step.batch->samples, [&](int64_t n, int) {
      float* padded = reinterpret_cast<float*>(c.saved) + n * padded_size();
      ForwardImage(*c.step.kernels, c.x + n * in_size(), padded, kernel, Bias(c.parameters),
                   c.y + n * out_size());
    });
  }

  void Infer(const InferContext& c) const override {
    for (int64_t n = 0; n < c.samples; ++n) {
      ForwardImage(*c.kernels, c.x + n * in_size(), reinterpret_cast<float*>(c.scratch),
                   c.parameters[0], Bias(c.parameters), c.y + n * out_size());
    }
  }

  void Backward(const BackwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t samples = step.batch->samples;
    if (activation_ != kernels::Activation::kLinear) {
      ParallelRows(*step.pool, samples * positions(), 64, [&](int64_t begin, int64_t end) {
        step.kernels->activate_backward(activation_, end - begin, filters_, c.y + begin * filters_,
                                        c.dy + begin * filters_);
      });
    }
    const float* x = padded_ ? reinterpret_cast<const float*>(c.saved) : c.x;
    WeightGradient(gradient_, step, x, c.dy, c.scratch, c.gradients[0], c.gradient_node_stride);
    if (spec_.use_bias()) {
      NodeSums(step, c.dy, nullptr, nullptr, positions(), filters_, c.scratch, c.sums[1],
               c.sum_node_stride);
    }
    if (c.dx != nullptr) InputGradient(c);
  }

 private:
  // What one class of input pixels adds up: taps (kh, kw) ascending, then filters.
  struct GradientPart {
    PixelClass rows;
    PixelClass columns;
    std::vector<kernels::Segment> segments;
  };

  std::vector<kernels::Segment> MakeForwardSegments() const {
    SegmentList segments(kernels::kConvChunk);
    const int64_t length = w_.kernel * in_;
    for (int64_t i = 0; i < h_.kernel; ++i) {
      segments.Add(i * w_.padded() * in_, i * length, length);
    }
    return std::move(segments).Finish();
  }

  // Not kept: a server builds networks by the thousand and never runs this.
  std::vector<GradientPart> MakeGradientParts() const {
    std::vector<GradientPart> parts;
    for (int64_t r = 0; r < h_.stride; ++r) {
      for (int64_t q = 0; q < w_.stride; ++q) {
        const PixelClass rows = PixelClass::Make(h_, r);
        const PixelClass columns = PixelClass::Make(w_, q);
        if (rows.count == 0 || columns.count == 0) continue;
        SegmentList segments(kernels::kConvChunk);
        for (int64_t i = rows.first_tap; i < h_.kernel; i += h_.stride) {
          for (int64_t j = columns.first_tap; j < w_.kernel; j += w_.stride) {
            const int64_t pixel = rows.Line(h_, i) * w_.gradient_padded() + columns.Line(w_, j);
            segments.Add(pixel * filters_, (i * w_.kernel + j) * filters_, filters_);
          }
        }
        parts.push_back({rows, columns, std::move(segments).Finish()});
      }
    }
    return parts;
  }

  const float* Bias(std::span<const float* const> parameters) const {
    return spec_.use_bias() ? parameters[1] : nullptr;
  }

  void ForwardImage(const kernels::KernelTable& kernels, const float* x, float* padded,
                    const float* kernel, const float* bias, float* y) const {
    if (padded_) {
      PadImage(x, h_.in, w_.in * in_, padded, h_.padded(), w_.padded() * in_, h_.pad_before,
               w_.pad_before * in_);
      x = padded;
    }
    kernels.contract_rows({.a = {x, w_.out, h_.stride * w_.padded() * in_, w_.stride * in_},
                           .b = {kernel, filters_, filters_},
                           .segments = forward_segments_.data(),
                           .segment_count = std::ssize(forward_segments_),
                           .y = {y, 1, filters_, 0},
                           .bias = bias,
                           .relu = activation_ == kernels::Activation::kRelu},
                          0, positions());
    if (activation_ != kernels::Activation::kRelu && activation_ != kernels::Activation::kLinear) {
      kernels.activate(activation_, positions(), filters_, y);
    }
  }

  void InputGradient(const BackwardContext& c) const {
    // kernel [kh, kw, in, filters] -> [kh, kw, filters, in]
    float* transposed = reinterpret_cast<float*>(c.scratch);
    for (int64_t tap = 0; tap < h_.kernel * w_.kernel; ++tap) {
      Eigen::Map<Matrix>(transposed + tap * in_ * filters_, filters_, in_) =
          Eigen::Map<const Matrix>(c.parameters[0] + tap * in_ * filters_, in_, filters_)
              .transpose();
    }
    std::byte* images = c.scratch + kernel_size() * kFloat;
    const std::vector<GradientPart> parts = MakeGradientParts();
    c.step.pool->ParallelFor(c.step.batch->samples, [&](int64_t n, int thread) {
      float* dy = reinterpret_cast<float*>(images + thread * gradient_image_bytes());
      PadImage(c.dy + n * out_size(), h_.out, w_.out * filters_, dy, h_.gradient_padded(),
               w_.gradient_padded() * filters_, h_.gradient_before(),
               w_.gradient_before() * filters_);
      float* dx = c.dx + n * in_size();
      for (const GradientPart& part : parts) {
        c.step.kernels->contract_rows(
            {.a = {dy, part.columns.count, w_.gradient_padded() * filters_, filters_},
             .b = {transposed, in_, in_},
             .segments = part.segments.data(),
             .segment_count = std::ssize(part.segments),
             .y = {dx + (part.rows.first * w_.in + part.columns.first) * in_, part.columns.count,
                   h_.stride * w_.in * in_, w_.stride * in_},
             .bias = nullptr,
             .relu = false},
            0, part.rows.count * part.columns.count);
      }
    });
  }

  int64_t positions() const { return h_.out * w_.out; }
  int64_t in_size() const { return h_.in * w_.in * in_; }
  int64_t out_size() const { return positions() * filters_; }
  int64_t padded_size() const { return h_.padded() * w_.padded() * in_; }
  int64_t kernel_size() const { return h_.kernel * w_.kernel * in_ * filters_; }
  int64_t gradient_image_bytes() const {
    return CeilDiv(h_.gradient_padded() * w_.gradient_padded() * filters_ * kFloat, 64) * 64;
  }

  const v1::Conv2D spec_;
  const kernels::Activation activation_;
  const Axis h_;
  const Axis w_;
  const int64_t in_;
  const int64_t filters_;
  const bool padded_;
  const std::vector<kernels::Segment> forward_segments_;
  const WeightGradientShape gradient_;
};

}  // namespace

LayerOr BuildConv2D(const BuildContext& c, v1::Layer* layer) {
  v1::Conv2D& spec = *layer->mutable_conv2d();
  if (c.input.rank() != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat(c.path, ": needs input [N, H, W, channels], but \"", c.name, "\" gets ",
                     c.input.rank(), " dimension(s) a sample"));
  }
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
  if (spec.padding().empty()) spec.set_padding("valid");
  if (spec.padding() != "valid" && spec.padding() != "same") {
    return FieldError(c, "padding",
                      absl::StrCat("must be valid or same; got \"", spec.padding(), "\""));
  }
  const bool same = spec.padding() == "same";
  if (!same && (kernel->height > c.input[0] || kernel->width > c.input[1])) {
    return FieldError(
        c, "kernel_size",
        absl::StrCat("[", kernel->height, ", ", kernel->width, "] does not fit the input [",
                     c.input[0], ", ", c.input[1], ", ", c.input[2], "] with padding \"valid\""));
  }
  // A larger kernel than the padded image could ever fill is a mistake, and costs memory.
  if (kernel->height > 2 * c.input[0] + 1 || kernel->width > 2 * c.input[1] + 1) {
    return FieldError(
        c, "kernel_size",
        absl::StrCat("[", kernel->height, ", ", kernel->width, "] is more than twice the input [",
                     c.input[0], ", ", c.input[1], ", ", c.input[2], "]"));
  }
  const int64_t in = c.input[2];
  if (spec.filters() > kMaxElements / kernel->height / kernel->width / in) {
    return FieldError(
        c, "filters",
        absl::StrCat("kernel [", kernel->height, ", ", kernel->width, ", ", in, ", ",
                     spec.filters(), "] is too large; at most ", kMaxElements, " values"));
  }
  auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  return std::make_unique<Conv2D>(spec, *activation,
                                  Axis::Make(c.input[0], kernel->height, strides->height, same),
                                  Axis::Make(c.input[1], kernel->width, strides->width, same), in);
}

}  // namespace lockstep
