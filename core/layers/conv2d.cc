#include <Eigen/Core>
#include <algorithm>
#include <bit>

#include "core/layers/build.h"
#include "core/layers/chunk_sums.h"
#include "core/layers/convolution_geometry.h"
#include "core/layers/packed.h"
#include "core/layers/row_sums.h"

namespace lockstep {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using kernels::RowRun;

constexpr int64_t kFloat = sizeof(float);

// Bounds what a step sets up beside the arithmetic: a tap or a stride's remainder costs a few
// bytes.
constexpr int64_t kMaxExtent = 256;

int64_t RoundUp(int64_t bytes) { return CeilDiv(bytes, 64) * 64; }

// The first cache line after what lies from `memory` to `end`.
std::byte* AlignedEnd(std::byte* memory, const std::byte* end) {
  return memory + RoundUp(end - memory);
}
const std::byte* AlignedEnd(const std::byte* memory, const std::byte* end) {
  return memory + RoundUp(end - memory);
}

// y = activation(x (*) kernel + bias): x [N, H, W, in], kernel [kh, kw, in / groups, filters],
// y [N, OH, OW, filters]. No patches are materialised: a kernel row's kw * in values lie together
// in x.
//
// Each group is a convolution of its own on its slices of channels. With one channel and one filter
// a group (depthwise) all groups go at once, vectors across channels.
class Conv2D final : public Layer {
 public:
  Conv2D(const v1::Conv2D& spec, kernels::Activation activation, ConvolutionAxis h,
         ConvolutionAxis w, int64_t in)
      : spec_(spec),
        activation_(activation),
        h_(h),
        w_(w),
        in_(in),
        filters_(spec.filters()),
        groups_(spec.groups()),
        depthwise_(groups_ > 1 && groups_ == in && groups_ == filters_),
        padded_(h.pad_before + h.pad_after + w.pad_before + w.pad_after > 0),
        chunk_samples_(static_cast<int64_t>(std::bit_ceil(
            static_cast<uint64_t>(CeilDiv(kernels::kConvGradientRows, positions()))))) {}

  Shape output_shape() const override { return {h_.out, w_.out, filters_}; }

  LayerTraits traits() const override {
    return {.backward_reads_x = true,
            .backward_reads_y = activation_ != kernels::Activation::kLinear,
            .finish_reads_dy = spec_.use_bias() && positions() == 1,
            .absorbs_affine = activation_ == kernels::Activation::kLinear};
  }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list = {{.name = "kernel",
                                     .shape = {h_.kernel, w_.kernel, group_in(), filters_},
                                     .initializer = spec_.kernel_initializer(),
                                     .fan_in = taps() * group_in(),
                                     .fan_out = taps() * filters_}};
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

  int64_t chunk_samples() const override { return chunk_samples_; }

  // The segments of each contraction, then every group's kernel. For Backward the kernel is brought
  // to [kh, kw, filters, in] first; a depthwise one is read as it is.
  int64_t packed_bytes(Pass pass) const override {
    const bool backward = pass == Pass::kBackward;
    const int64_t tap_rows = backward ? group_filters() : group_in();
    const int64_t lists = backward ? h_.stride * w_.stride : 1;
    const int64_t segments = SegmentWriter::Bytes(taps(), taps() * tap_rows, kernels::kConvChunk) +
                             (lists - 1) * SegmentWriter::Bytes(0, 0, 1);
    if (depthwise_) return segments;
    const int64_t operand =
        PackedOperandBytes(taps() * tap_rows, backward ? group_in() : group_filters());
    return RoundUp(segments) + groups_ * ((backward ? TransposedBytes() : 0) + operand);
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return ChunkSumsBytes(capacity, chunk_samples_, kernel_size()) +
           (spec_.use_bias() ? RowSumsBytes(capacity, positions(), filters_) : 0);
  }
  int64_t scratch_bytes(int64_t tile_samples) const override {
    return std::max(RunsBytes(tile_samples) + tile_samples * padded_bytes(),
                    tile_samples * gradient_padded_bytes());
  }
  int64_t infer_scratch_bytes(int64_t tile_samples) const override {
    return tile_samples * padded_bytes();
  }

  void Pack(const PackContext& c) const override {
    if (c.pass == Pass::kBackward) return PackBackward(c);
    SegmentWriter writer(kernels::kConvChunk, c.packed);
    ForSlices([&](const Slice& s) { writer.Add(s.x, s.k, s.length); });
    std::byte* memory = AlignedEnd(c.packed, writer.Finish());
    for (int64_t g = 0; g < groups_ && !depthwise_; ++g) {
      memory = PackOperand(*c.kernels, c.parameters[0] + g * group_filters(), filters_,
                           /*transposed=*/false, taps() * group_in(), group_filters(), memory);
    }
  }

  void Forward(const ForwardContext& c) const override {
    ForwardImages(*c.step.kernels, c.tile.samples, c.x(), c.parameters, c.packed, c.scratch, c.y);
  }

  void Infer(const InferContext& c) const override {
    ForwardImages(*c.kernels, c.samples, c.x(), c.parameters, c.packed, c.scratch, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    const kernels::KernelTable& kernels = *c.step.kernels;
    if (activation_ != kernels::Activation::kLinear) {
      kernels.activate_backward(activation_, c.tile.samples * positions(), filters_, c.y, c.dy);
    }
    if (spec_.use_bias()) {
      GatherSums(kernels, c.tile, c.dy, nullptr, nullptr, positions(), filters_, BiasSums(c));
    }
    WeightGradient(c);
    if (c.dx() != nullptr) InputGradient(c);
  }

  void FinishBackward(const BackwardContext& c) const override {
    CombineChunkSums(c.step, chunk_samples_, kernel_size(), c.sums, c.gradients[0],
                     c.gradient_node_stride);
    if (!spec_.use_bias()) return;
    CombineNodeSums(c.step, c.dy, nullptr, nullptr, 1, positions(), filters_, BiasSums(c),
                    c.parameter_sums[1], c.sum_node_stride);
  }

 private:
  // Where a tap's channels, or a kernel row's taps, lie together: x floats from the first tap, k
  // rows of the kernel.
  struct Slice {
    int64_t x;
    int64_t k;
    int64_t length;
  };

  // Calls body(slice) in the order of k.
  template <typename Body>
  void ForSlices(Body body) const {
    const int64_t tap_rows = group_in();
    // Taps that lie together in x: all of a kernel row when every channel takes part.
    const int64_t together = w_.dilation == 1 && (groups_ == 1 || depthwise_) ? w_.kernel : 1;
    for (int64_t i = 0; i < h_.kernel; ++i) {
      for (int64_t j = 0; j < w_.kernel; j += together) {
        body(Slice{(i * h_.dilation * w_.padded() + j * w_.dilation) * in_,
                   (i * w_.kernel + j) * tap_rows, together * tap_rows});
      }
    }
  }

  // What a class of input pixels adds up: taps (kh, kw) ascending, then filters.
  std::byte* WriteGradientSegments(const PixelClass& rows, const PixelClass& columns,
                                   std::byte* memory) const {
    SegmentWriter writer(kernels::kConvChunk, memory);
    const int64_t tap_rows = group_filters();
    for (int64_t i = 0; i < h_.kernel; ++i) {
      for (int64_t j = 0; j < w_.kernel; ++j) {
        if (!rows.Sees(h_, i) || !columns.Sees(w_, j)) continue;
        const int64_t pixel = rows.Line(h_, i) * w_.gradient_padded() + columns.Line(w_, j);
        writer.Add(pixel * filters_, (i * w_.kernel + j) * tap_rows, tap_rows);
      }
    }
    return writer.Finish();
  }

  // Calls body(rows, columns) for every class of input pixels that there is.
  template <typename Body>
  void ForPixelClasses(Body body) const {
    for (int64_t r = 0; r < h_.stride; ++r) {
      const PixelClass rows = PixelClass::Make(h_, r);
      for (int64_t q = 0; rows.count > 0 && q < w_.stride; ++q) {
        const PixelClass columns = PixelClass::Make(w_, q);
        if (columns.count > 0) body(rows, columns);
      }
    }
  }

  void PackBackward(const PackContext& c) const {
    std::byte* memory = c.packed;
    ForPixelClasses([&](const PixelClass& rows, const PixelClass& columns) {
      memory = WriteGradientSegments(rows, columns, memory);
    });
    memory = AlignedEnd(c.packed, memory);
    for (int64_t g = 0; g < groups_ && !depthwise_; ++g) {
      float* transposed = reinterpret_cast<float*>(memory);
      for (int64_t tap = 0; tap < taps(); ++tap) {
        Eigen::Map<Matrix>(transposed + tap * group_filters() * group_in(), group_filters(),
                           group_in()) =
            Eigen::Map<const Matrix>(c.parameters[0] + tap * group_in() * filters_, group_in(),
                                     filters_)
                .middleCols(g * group_filters(), group_filters())
                .transpose();
      }
      memory = PackOperand(*c.kernels, transposed, group_in(), /*transposed=*/false,
                           taps() * group_filters(), group_in(), memory + TransposedBytes());
    }
  }

  // A contraction with every group's kernel, which lies at `packed`. `c` is the first group's but
  // for the kernel; `a` and `y` are floats from group to group in the other operands.
  void ContractGroups(const kernels::KernelTable& kernels, kernels::RowContraction c, int64_t rows,
                      const std::byte* packed, bool backward, int64_t a, int64_t y) const {
    const int64_t depth = taps() * (backward ? group_filters() : group_in());
    for (int64_t g = 0; g < groups_; ++g) {
      if (backward) packed += TransposedBytes();
      c.b = TakeOperand(packed, depth, backward ? group_in() : group_filters());
      kernels.contract_rows(c, 0, rows);
      c.a.base += a;
      c.y.base += y;
      if (c.bias != nullptr) c.bias += y;
    }
  }

  void ForwardImages(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                     std::span<const float* const> parameters, const std::byte* packed,
                     std::byte* scratch, float* y) const {
    x = Padded(samples, x, reinterpret_cast<float*>(scratch));
    const std::byte* end = packed;
    const std::span<const kernels::Segment> segments = TakeSegments(end);
    const int64_t rows = samples * positions();
    const kernels::RowContraction contraction = {
        .a = {x, w_.out, h_.stride * w_.padded() * in_, w_.stride * in_, h_.out, padded_size()},
        .b = {parameters[0], filters_, filters_},
        .segments = segments.data(),
        .segment_count = std::ssize(segments),
        .y = {y, 1, filters_, 0},
        .bias = parameters.size() > 1 ? parameters[1] : nullptr,
        .relu = activation_ == kernels::Activation::kRelu};
    if (depthwise_) {
      kernels.contract_rows_depthwise(contraction, 0, rows);
    } else {
      ContractGroups(kernels, contraction, rows, AlignedEnd(packed, end), /*backward=*/false,
                     group_in(), group_filters());
    }
    if (activation_ != kernels::Activation::kRelu && activation_ != kernels::Activation::kLinear) {
      kernels.activate(activation_, rows, filters_, y);
    }
  }

  // The images with their padding: themselves, or copied to `padded`.
  const float* Padded(int64_t samples, const float* x, float* padded) const {
    if (!padded_) return x;
    for (int64_t n = 0; n < samples; ++n) {
      PadImage(x + n * in_size(), h_.in, w_.in * in_, padded + n * padded_size(), h_.padded(),
               w_.padded() * in_, h_.pad_before, w_.pad_before * in_);
    }
    return padded;
  }

  // Adds the tile's samples to the sums of their chunks.
  void WeightGradient(const BackwardContext& c) const {
    const float* x = Padded(c.tile.samples, c.x,
                            reinterpret_cast<float*>(c.scratch + RunsBytes(c.tile.samples)));
    const ChunkSums chunks(*c.step.batch, c.tile.shard, chunk_samples_, kernel_size(), c.sums);
    for (int64_t n = 0; n < c.tile.samples;) {
      const ChunkSums::Part part = chunks.Find(c.tile.begin + n);
      const int64_t end = std::min(c.tile.samples, part.end - c.tile.begin);
      RowRun* runs = reinterpret_cast<RowRun*>(c.scratch);
      const int64_t run_count = WriteRuns(n, end, runs);
      kernels::ColumnContraction contraction = {.x = nullptr,
                                                .dy = c.dy,
                                                .runs = runs,
                                                .run_count = run_count,
                                                .x_stride = w_.stride * in_,
                                                .dy_stride = filters_,
                                                .rows = 0,
                                                .columns = depthwise_ ? filters_ : group_filters(),
                                                .w = nullptr,
                                                .w_stride = filters_,
                                                .continues = c.tile.begin + n > part.begin};
      ForSlices([&](const Slice& slice) {
        contraction.rows = slice.length;
        if (depthwise_) {
          contraction.x = x + slice.x;
          contraction.w = part.sum + slice.k * filters_;
          c.step.kernels->contract_columns_depthwise(contraction);
          return;
        }
        for (int64_t g = 0; g < groups_; ++g) {
          contraction.x = x + slice.x + g * group_in();
          contraction.dy = c.dy + g * group_filters();
          contraction.w = part.sum + slice.k * filters_ + g * group_filters();
          c.step.kernels->contract_columns(contraction);
        }
      });
      n = end;
    }
  }

  // The output rows of the tile's samples [begin, end), line by line: one chunk of one shard.
  int64_t WriteRuns(int64_t begin, int64_t end, RowRun* runs) const {
    int64_t count = 0;
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t line = 0; line < h_.out; ++line) {
        runs[count++] = {n * padded_size() + line * h_.stride * w_.padded() * in_,
                         (n * h_.out + line) * w_.out * filters_, w_.out, /*ends_chunk=*/false,
                         /*merges=*/-1};
      }
    }
    runs[count - 1].ends_chunk = true;
    runs[count - 1].merges = 0;
    return count;
  }

  void InputGradient(const BackwardContext& c) const {
    const float* dy = c.dy;
    int64_t dy_size = out_size();
    if (gradient_padded()) {
      float* padded = reinterpret_cast<float*>(c.scratch);
      dy_size = gradient_padded_bytes() / kFloat;
      for (int64_t n = 0; n < c.tile.samples; ++n) {
        PadImage(c.dy + n * out_size(), h_.out, w_.out * filters_, padded + n * dy_size,
                 h_.gradient_padded(), w_.gradient_padded() * filters_, h_.gradient_before(),
                 w_.gradient_before() * filters_);
      }
      dy = padded;
    }
    const std::byte* segment_list = c.packed;
    const std::byte* operands = c.packed;
    ForPixelClasses([&](const PixelClass&, const PixelClass&) { TakeSegments(operands); });
    operands = AlignedEnd(c.packed, operands);
    ForPixelClasses([&](const PixelClass& rows, const PixelClass& columns) {
      const std::span<const kernels::Segment> segments = TakeSegments(segment_list);
      const kernels::RowContraction contraction = {
          .a = {dy, columns.count, w_.gradient_padded() * filters_, filters_, rows.count, dy_size},
          .b = {c.parameters[0], in_, in_},
          .segments = segments.data(),
          .segment_count = std::ssize(segments),
          .y = {c.dx() + (rows.first * w_.in + columns.first) * in_, columns.count,
                h_.stride * w_.in * in_, w_.stride * in_, rows.count, in_size()},
          .bias = nullptr,
          .relu = false};
      const int64_t count = c.tile.samples * rows.count * columns.count;
      if (depthwise_) {
        c.step.kernels->contract_rows_depthwise(contraction, 0, count);
      } else {
        ContractGroups(*c.step.kernels, contraction, count, operands, /*backward=*/true,
                       group_filters(), group_in());
      }
    });
  }

  std::byte* BiasSums(const BackwardContext& c) const {
    const Capacity here = {c.step.batch->samples, c.step.batch->shards()};
    return c.sums + ChunkSumsBytes(here, chunk_samples_, kernel_size());
  }

  int64_t positions() const { return h_.out * w_.out; }
  int64_t in_size() const { return h_.in * w_.in * in_; }
  int64_t out_size() const { return positions() * filters_; }
  int64_t taps() const { return h_.kernel * w_.kernel; }
  int64_t group_in() const { return in_ / groups_; }
  int64_t group_filters() const { return filters_ / groups_; }
  int64_t kernel_size() const { return taps() * group_in() * filters_; }
  int64_t TransposedBytes() const {
    return RoundUp(taps() * group_filters() * group_in() * kFloat);
  }
  // Images start on cache lines when they are copied to be padded.
  int64_t padded_size() const {
    return padded_ ? RoundUp(h_.padded() * w_.padded() * in_ * kFloat) / kFloat : in_size();
  }
  int64_t padded_bytes() const { return padded_ ? padded_size() * kFloat : 0; }
  bool gradient_padded() const {
    return h_.gradient_padded() > h_.out || w_.gradient_padded() > w_.out;
  }
  int64_t gradient_padded_bytes() const {
    return gradient_padded()
               ? RoundUp(h_.gradient_padded() * w_.gradient_padded() * filters_ * kFloat)
               : 0;
  }
  int64_t RunsBytes(int64_t samples) const {
    return RoundUp(samples * h_.out * static_cast<int64_t>(sizeof(RowRun)));
  }

  const v1::Conv2D spec_;
  const kernels::Activation activation_;
  const ConvolutionAxis h_;
  const ConvolutionAxis w_;
  const int64_t in_;
  const int64_t filters_;
  const int64_t groups_;
  const bool depthwise_;
  const bool padded_;
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
  const int64_t height = ConvolutionAxis::Extent(kernel->height, dilation->height);
  const int64_t width = ConvolutionAxis::Extent(kernel->width, dilation->width);
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
      ConvolutionAxis::Make(c.input()[0], kernel->height, strides->height, dilation->height, same),
      ConvolutionAxis::Make(c.input()[1], kernel->width, strides->width, dilation->width, same),
      in);
}

}  // namespace lockstep
