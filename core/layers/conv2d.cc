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
using kernels::Segment;

constexpr int64_t kFloat = sizeof(float);

// Bounds what a step sets up beside the arithmetic: a tap or a stride's remainder costs a few
// bytes.
constexpr int64_t kMaxExtent = 256;

int64_t RoundUp(int64_t bytes) { return CeilDiv(bytes, 64) * 64; }

// y = activation(x (*) kernel + bias): x [N, H, W, in], kernel [kh, kw, in / groups, filters],
// y [N, OH, OW, filters]. No patches and no padded images are materialised: a kernel row's kw * in
// values lie together in x, and pixels that see the same taps are computed together.
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
        chunk_samples_(static_cast<int64_t>(std::bit_ceil(
            static_cast<uint64_t>(CeilDiv(kernels::kConvGradientRows, positions()))))) {}

  Shape output_shape() const override { return {h_.out, w_.out, filters_}; }

  LayerTraits traits() const override {
    return {.backward_reads_x = true,
            .backward_reads_y = activation_ != kernels::Activation::kLinear,
            .overwrites_dy = activation_ != kernels::Activation::kLinear,
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

  // Every group's kernel, for Backward brought to [kh, kw, filters, in] first. A depthwise one is
  // read as it is.
  int64_t packed_bytes(Pass pass) const override {
    if (depthwise_) return 0;
    return groups_ *
           (pass == Pass::kBackward
                ? TransposedBytes() + PackedOperandBytes(taps() * group_filters(), group_in())
                : PackedOperandBytes(taps() * group_in(), group_filters()));
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return ChunkSumsBytes(capacity, chunk_samples_, kernel_size()) +
           (spec_.use_bias() ? RowSumsBytes(capacity, positions(), filters_) : 0);
  }
  int64_t scratch_bytes(int64_t tile_samples) const override {
    return std::max({SegmentsBytes(group_in()), SegmentsBytes(group_filters()),
                     tile_samples * h_.out * static_cast<int64_t>(sizeof(RowRun))});
  }
  int64_t infer_scratch_bytes(int64_t) const override { return SegmentsBytes(group_in()); }

  void Pack(const PackContext& c) const override {
    std::byte* memory = c.packed;
    for (int64_t g = 0; g < groups_; ++g) {
      if (c.pass != Pass::kBackward) {
        memory = PackOperand(*c.kernels, c.parameters[0] + g * group_filters(), filters_,
                             /*transposed=*/false, taps() * group_in(), group_filters(), memory);
        continue;
      }
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

  void Forward(const ForwardContext& c) const override {
    ForwardImages(*c.step.kernels, c.tile.samples, c.x(), c.parameters, c.packed, c.scratch, c.y);
  }

  void Infer(const InferContext& c) const override {
    ForwardImages(*c.kernels, c.samples, c.x(), c.parameters, c.packed, c.scratch, c.y);
  }

  void Backward(const BackwardContext& c) const override {
    const kernels::KernelTable& kernels = *c.step.kernels;
    if (activation_ != kernels::Activation::kLinear) {
      kernels.activate_backward(activation_, c.tile.samples * positions(), filters_, c.y, c.dy,
                                c.dy);
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
  // One direction of the convolution: what it reads and writes.
  struct Direction {
    int64_t a_width, a_channels, a_group;  // image that is read: pixels a line, channels, a group's
    int64_t y_width, y_channels, y_group;  // image that is written
    int64_t a_size, y_size;                // floats a sample
    bool transposed;                       // the packed kernels are
  };
  Direction ForwardDirection() const {
    return {w_.in,           in_,       group_in(), w_.out, filters_,
            group_filters(), in_size(), out_size(), false};
  }
  Direction BackwardDirection() const {
    return {w_.out, filters_, group_filters(), w_.in, in_, group_in(), out_size(), in_size(), true};
  }

  // The pixels of `samples` images that lie at y_first + m * y_step along each axis, for the lines
  // m of the axes, region by region of pixels that see the same taps.
  struct Pixels {
    TapAxis rows, columns;
    int64_t first_row, row_step, first_column, column_step;
  };
  void Contract(const kernels::KernelTable& kernels, const Direction& d, const Pixels& pixels,
                int64_t samples, const float* a, const float* kernel, const std::byte* packed,
                const float* bias, bool relu, std::byte* scratch, float* y) const {
    ForTapRegions(pixels.rows, [&](const TapRegion& rows) {
      ForTapRegions(pixels.columns, [&](const TapRegion& columns) {
        const std::span<const Segment> segments =
            WriteSegments(d, pixels, rows, columns, reinterpret_cast<Segment*>(scratch));
        const int64_t y_row = pixels.first_row + rows.first * pixels.row_step;
        const int64_t y_column = pixels.first_column + columns.first * pixels.column_step;
        kernels::RowContraction c = {
            .a = {a, columns.lines, pixels.rows.stride * d.a_width * d.a_channels,
                  pixels.columns.stride * d.a_channels, rows.lines, d.a_size},
            .b = {kernel, filters_, filters_},
            .segments = segments.data(),
            .segment_count = std::ssize(segments),
            .y = {y + (y_row * d.y_width + y_column) * d.y_channels, columns.lines,
                  pixels.row_step * d.y_width * d.y_channels, pixels.column_step * d.y_channels,
                  rows.lines, d.y_size},
            .bias = bias,
            .relu = relu};
        const int64_t count = samples * rows.lines * columns.lines;
        if (depthwise_) {
          kernels.contract_rows_depthwise(c, 0, count);
          return;
        }
        const std::byte* operands = packed;
        for (int64_t g = 0; g < groups_; ++g) {
          if (d.transposed) operands += TransposedBytes();
          c.b = TakeOperand(operands, taps() * d.a_group, d.y_group);
          kernels.contract_rows(c, 0, count);
          c.a.base += d.a_group;
          c.y.base += d.y_group;
          if (c.bias != nullptr) c.bias += d.y_group;
        }
      });
    });
  }

  // What the pixels of a region add up: taps (kh, kw) ascending, then channels. The k of the taps
  // outside count (core/README.md, rule 1). `a` is from the first pixel of the image that is read.
  std::span<const Segment> WriteSegments(const Direction& d, const Pixels& pixels,
                                         const TapRegion& rows, const TapRegion& columns,
                                         Segment* out) const {
    SegmentWriter writer(kernels::kConvChunk, out);
    // Taps of a line lie together in both operands: one run.
    const bool together = pixels.columns.source_step == 1 && pixels.columns.kernel_step == 1 &&
                          (groups_ == 1 || depthwise_);
    const int64_t run = together ? columns.taps() : 1;
    const int64_t row_taps = pixels.columns.taps * d.a_group;
    writer.Skip(rows.tap_begin * row_taps);
    for (int64_t i = rows.tap_begin; i < rows.tap_end; ++i) {
      writer.Skip(columns.tap_begin * d.a_group);
      for (int64_t j = columns.tap_begin; j < columns.tap_end; j += run) {
        const int64_t pixel =
            pixels.rows.Source(rows.first, i) * d.a_width + pixels.columns.Source(columns.first, j);
        const int64_t tap = pixels.rows.Kernel(i) * w_.kernel + pixels.columns.Kernel(j);
        writer.Add(pixel * d.a_channels, tap * d.a_group, run * d.a_group);
      }
      writer.Skip((pixels.columns.taps - columns.tap_end) * d.a_group);
    }
    return writer.Finish();
  }

  void ForwardImages(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                     std::span<const float* const> parameters, const std::byte* packed,
                     std::byte* scratch, float* y) const {
    Contract(kernels, ForwardDirection(), {h_.Forward(), w_.Forward(), 0, 1, 0, 1}, samples, x,
             parameters[0], packed, parameters.size() > 1 ? parameters[1] : nullptr,
             activation_ == kernels::Activation::kRelu, scratch, y);
    if (activation_ != kernels::Activation::kRelu && activation_ != kernels::Activation::kLinear) {
      kernels.activate(activation_, samples * positions(), filters_, y, y);
    }
  }

  void InputGradient(const BackwardContext& c) const {
    for (int64_t r = 0; r < h_.stride; ++r) {
      const ConvolutionAxis::Backward rows = h_.BackwardClass(r);
      for (int64_t q = 0; q < w_.stride; ++q) {
        const ConvolutionAxis::Backward columns = w_.BackwardClass(q);
        Contract(*c.step.kernels, BackwardDirection(),
                 {rows.axis, columns.axis, rows.first, h_.stride, columns.first, w_.stride},
                 c.tile.samples, c.dy, c.parameters[0], c.packed, nullptr, false, c.scratch,
                 c.dx());
      }
    }
  }

  // Adds the tile's samples to the sums of their chunks.
  void WeightGradient(const BackwardContext& c) const {
    const ChunkSums chunks(*c.step.batch, c.tile.shard, chunk_samples_, kernel_size(), c.sums);
    for (int64_t n = 0; n < c.tile.samples;) {
      const ChunkSums::Part part = chunks.Find(c.tile.begin + n);
      const int64_t end = std::min(c.tile.samples, part.end - c.tile.begin);
      for (int64_t i = 0; i < h_.kernel; ++i) {
        // Taps whose pixels are all inside lie together in x.
        const bool together = !w_.padded() && w_.dilation == 1 && (groups_ == 1 || depthwise_);
        const int64_t run = together ? w_.kernel : 1;
        for (int64_t j = 0; j < w_.kernel; j += run) {
          AddTaps(c, n, end, i, j, run, c.tile.begin + n > part.begin, part.sum);
        }
      }
      n = end;
    }
  }

  // The gradient of the taps (i, j), ..., (i, j + taps - 1) over the tile's samples [begin, end),
  // which belong to one chunk.
  void AddTaps(const BackwardContext& c, int64_t begin, int64_t end, int64_t i, int64_t j,
               int64_t taps, bool continues, float* sum) const {
    const LineRange rows = LinesInside(h_.Forward(), i);
    const LineRange columns = LinesInside(w_.Forward(), j);
    const int64_t length = columns.last - columns.first;
    RowRun* runs = reinterpret_cast<RowRun*>(c.scratch);
    int64_t count = 0;
    for (int64_t n = begin; n < end && length > 0; ++n) {
      for (int64_t line = rows.first; line < rows.last; ++line) {
        const int64_t pixel =
            h_.Forward().Source(line, i) * w_.in + w_.Forward().Source(columns.first, j);
        runs[count++] = {n * in_size() + pixel * in_,
                         n * out_size() + (line * w_.out + columns.first) * filters_, length,
                         /*ends_chunk=*/false, /*merges=*/-1};
      }
    }
    if (count == 0) runs[count++] = {0, 0, 0, false, -1};
    runs[count - 1].ends_chunk = true;
    runs[count - 1].merges = 0;
    kernels::ColumnContraction contraction = {
        .x = c.x,
        .dy = c.dy,
        .runs = runs,
        .run_count = count,
        .x_stride = w_.stride * in_,
        .dy_stride = filters_,
        .rows = taps * group_in(),
        .columns = depthwise_ ? filters_ : group_filters(),
        .w = sum + (i * w_.kernel + j) * group_in() * filters_,
        .w_stride = filters_,
        .continues = continues};
    if (depthwise_) {
      c.step.kernels->contract_columns_depthwise(contraction);
      return;
    }
    for (int64_t g = 0; g < groups_; ++g) {
      c.step.kernels->contract_columns(contraction);
      contraction.x += group_in();
      contraction.dy += group_filters();
      contraction.w += group_filters();
    }
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
  int64_t SegmentsBytes(int64_t tap_rows) const {
    return SegmentWriter::Most(taps(), taps() * tap_rows, kernels::kConvChunk) *
           static_cast<int64_t>(sizeof(Segment));
  }

  const v1::Conv2D spec_;
  const kernels::Activation activation_;
  const ConvolutionAxis h_;
  const ConvolutionAxis w_;
  const int64_t in_;
  const int64_t filters_;
  const int64_t groups_;
  const bool depthwise_;
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
