#include "core/kernels/convolution.h"

#include <algorithm>
#include <numeric>

namespace lockstep::kernels {
namespace {

// A kernel gradient's tile has one row a channel and tap. With fewer channels than this a tap alone
// would leave most accumulators unused, so a kernel row's taps share a tile, over a copy with
// padding. With fewer values than this in a kernel row, all kernel rows share a tile.
constexpr int64_t kFewChannels = 16;
constexpr int64_t kFewInKernelRow = 6;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Some tap of some output pixel lies outside the image.
bool HasBorders(const ConvolutionAxis& a) {
  return a.pad > 0 || (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation - a.pad >= a.in;
}

// Appends to a list the k of a contraction that lie together in memory, cut where a chunk ends. k
// counts what is skipped, too.
class SegmentWriter {
 public:
  SegmentWriter(Segment* first, int64_t a_step) : first_(first), end_(first), a_step_(a_step) {}

  void Add(int64_t a, int64_t b, int64_t length) {
    while (length > 0) {
      const int64_t part = std::min(length, kConvChunk - in_chunk_);
      const bool extends = in_segment_ && end_[-1].b + end_[-1].length == b &&
                           end_[-1].a + end_[-1].length * a_step_ == a;
      if (extends) {
        end_[-1].length += part;
      } else {
        *end_++ = {a, b, part, false};
      }
      in_segment_ = true;
      Advance(part);
      a += part * a_step_;
      b += part;
      length -= part;
    }
  }

  void Skip(int64_t length) {
    while (length > 0) {
      const int64_t part = std::min(length, kConvChunk - in_chunk_);
      Advance(part);
      length -= part;
    }
  }

  int64_t Finish() {
    if (end_ != first_) end_[-1].ends_chunk = true;
    return end_ - first_;
  }

 private:
  void Advance(int64_t k) {
    in_chunk_ += k;
    if (in_chunk_ < kConvChunk) return;
    in_chunk_ = 0;
    if (in_segment_) end_[-1].ends_chunk = true;
    in_segment_ = false;
  }

  Segment* first_;
  Segment* end_;
  int64_t a_step_;
  int64_t in_chunk_ = 0;
  bool in_segment_ = false;  // the running chunk has a segment
};

// Collects runs and hands them to the kernel a bufferful at a time.
class RunList {
 public:
  RunList(const KernelTable& kernels, bool depthwise, const ColumnContraction& c)
      : contract_(depthwise ? kernels.contract_columns_depthwise : kernels.contract_columns),
        contraction_(c) {}

  void Add(int64_t x, int64_t dy, int64_t length) {
    if (count_ > 0) {
      RowRun& last = runs_[count_ - 1];
      if (last.x + last.length * contraction_.x_stride == x &&
          last.dy + last.length * contraction_.dy_stride == dy) {
        last.length += length;
        return;
      }
    }
    if (count_ == kRuns) Flush();
    runs_[count_++] = {x, dy, length, /*ends_chunk=*/false, /*merges=*/-1};
  }

  void Flush() {
    contraction_.runs = runs_;
    contraction_.run_count = count_;
    contract_(contraction_);
    contraction_.continues = true;
    count_ = 0;
  }

 private:
  static constexpr int64_t kRuns = 128;

  void (*contract_)(const ColumnContraction&);
  ColumnContraction contraction_;
  RowRun runs_[kRuns];
  int64_t count_ = 0;
};

}  // namespace

Convolution::Convolution(const ConvolutionAxis& h, const ConvolutionAxis& w, int64_t channels,
                         int64_t filters, int64_t groups)
    : h_(h),
      w_(w),
      groups_(groups),
      depthwise_(groups > 1 && groups == channels && groups == filters),
      x_{w.in, h.in * w.in, channels, channels / groups},
      y_{w.out, h.out * w.out, filters, filters / groups} {}

// Target pixels first, first + step, ... along an axis that see the same taps.
struct Convolution::PixelClass {
  int64_t first, step, count;
  int64_t tap, tap_step, taps;
  // Of the taps that there would be without borders, so many come before `tap`, and in all.
  int64_t taps_before, taps_without_borders;
  // Source pixel that the first tap of the first pixel reads; how far the next tap's and the next
  // pixel's is.
  int64_t source, source_tap_step, source_step;
};

// Calls body(class) for each class of output pixels, in order.
template <typename Body>
void Convolution::ForForwardClasses(const ConvolutionAxis& axis, Body body) {
  const int64_t extent = (axis.kernel - 1) * axis.dilation;
  for (int64_t o = 0; o < axis.out;) {
    const int64_t start = o * axis.stride - axis.pad;
    const int64_t tap = start < 0 ? CeilDiv(-start, axis.dilation) : 0;
    const int64_t end =
        start < axis.in ? std::min(axis.kernel, CeilDiv(axis.in - start, axis.dilation)) : 0;
    // Inner pixels go together, and what sees nothing at the end.
    int64_t count = 1;
    if (tap == 0 && end == axis.kernel) count = (axis.in - 1 - extent - start) / axis.stride + 1;
    if (start >= axis.in) count = axis.out - o;
    count = std::min(count, axis.out - o);
    body(PixelClass{.first = o,
                    .step = 1,
                    .count = count,
                    .tap = tap,
                    .tap_step = 1,
                    .taps = std::max<int64_t>(0, end - tap),
                    .taps_before = tap,
                    .taps_without_borders = axis.kernel,
                    .source = start + tap * axis.dilation,
                    .source_tap_step = axis.dilation,
                    .source_step = axis.stride});
    o += count;
  }
}

// Calls body(class) for each class of input pixels. Pixel i gets something from tap k if
// i + pad - k * dilation is a multiple o * stride, so the taps of a pixel are `step` apart, and
// each reads an output pixel further back.
template <typename Body>
void Convolution::ForGradientClasses(const ConvolutionAxis& axis, Body body) {
  const int64_t step = axis.stride / std::gcd(axis.stride, axis.dilation);
  const int64_t back = step * axis.dilation / axis.stride;
  for (int64_t remainder = 0; remainder < std::min(axis.stride, axis.in); ++remainder) {
    int64_t k = 0;
    while (k < std::min(axis.kernel, step) &&
           (remainder + axis.pad - k * axis.dilation) % axis.stride != 0) {
      ++k;
    }
    const int64_t all = k < std::min(axis.kernel, step) ? CeilDiv(axis.kernel - k, step) : 0;
    const int64_t pixels = CeilDiv(axis.in - remainder, axis.stride);
    for (int64_t m = 0; m < pixels;) {
      const int64_t i = remainder + m * axis.stride;
      // The output pixel of tap k; of the taps, those from `begin` on stay below `out`, those
      // before `end` are not negative.
      const int64_t o = (i + axis.pad - k * axis.dilation) / axis.stride;
      const bool negative = i + axis.pad < k * axis.dilation;
      const int64_t begin = o < axis.out ? 0 : (o - axis.out) / back + 1;
      const int64_t end = negative ? 0 : std::min(all, o / back + 1);
      // Inner pixels go together, and what sees nothing.
      int64_t count = 1;
      if (begin == 0 && end == all) count = axis.out - o;
      if (all == 0 || begin >= all) count = pixels - m;
      count = std::min(count, pixels - m);
      body(PixelClass{.first = i,
                      .step = axis.stride,
                      .count = count,
                      .tap = k + begin * step,
                      .tap_step = step,
                      .taps = std::max<int64_t>(0, end - begin),
                      .taps_before = begin,
                      .taps_without_borders = all,
                      .source = o - begin * back,
                      .source_tap_step = -back,
                      .source_step = 1});
      m += count;
    }
  }
}

int64_t Convolution::packed_floats() const {
  const int64_t taps = h_.kernel * w_.kernel;
  return groups_ * std::max(PackedFloats(taps * x_.group_channels, y_.group_channels),
                            PackedFloats(taps * y_.group_channels, x_.group_channels));
}

void Convolution::PackForward(const KernelTable& kernels, const float* kernel, float* packed,
                              RightOperand* operands) const {
  if (depthwise_) {
    operands[0] = {kernel, y_.channels, y_.channels};
    return;
  }
  const int64_t depth = h_.kernel * w_.kernel * x_.group_channels;
  for (int64_t g = 0; g < groups_; ++g) {
    operands[g] =
        kernels.pack(kernel + g * y_.group_channels, y_.channels, depth, y_.group_channels, packed);
    packed += PackedFloats(depth, y_.group_channels);
  }
}

void Convolution::PackInputGradient(const KernelTable& kernels, const float* kernel, float* packed,
                                    RightOperand* operands) const {
  if (depthwise_) {
    operands[0] = {kernel, x_.channels, x_.channels};
    return;
  }
  const int64_t taps = h_.kernel * w_.kernel;
  for (int64_t g = 0; g < groups_; ++g) {
    operands[g] = kernels.pack_transposed(kernel + g * y_.group_channels, y_.channels, taps,
                                          y_.group_channels, x_.group_channels, packed);
    packed += PackedFloats(taps * y_.group_channels, x_.group_channels);
  }
}

int64_t Convolution::segments() const {
  const int64_t taps = h_.kernel * w_.kernel;
  return taps + taps * std::max(x_.group_channels, y_.group_channels) / kConvChunk + 1;
}

int64_t Convolution::WriteSegments(const PixelClass& row, const PixelClass& column,
                                   const Image& source, Segment* segments) const {
  const int64_t depth = depthwise_ ? 1 : source.group_channels;
  SegmentWriter writer(segments, depthwise_ ? source.channels : 1);
  writer.Skip(row.taps_before * column.taps_without_borders * depth);
  for (int64_t i = 0; i < row.taps; ++i) {
    writer.Skip(column.taps_before * depth);
    for (int64_t j = 0; j < column.taps; ++j) {
      const int64_t pixel = (row.source + i * row.source_tap_step) * source.width + column.source +
                            j * column.source_tap_step;
      const int64_t tap =
          (row.tap + i * row.tap_step) * w_.kernel + column.tap + j * column.tap_step;
      writer.Add(pixel * source.channels, tap * depth, depth);
    }
    writer.Skip((column.taps_without_borders - column.taps_before - column.taps) * depth);
  }
  return writer.Finish();
}

void Convolution::Contract(const KernelTable& kernels, const RightOperand* operands,
                           int64_t samples, const PixelClass& row, const PixelClass& column,
                           const Image& source, const float* from, const Image& target, float* to,
                           const float* bias, bool relu, bool adds, Segment* segments) const {
  const int64_t count = WriteSegments(row, column, source, segments);
  RowContraction c = {
      .a = {.base = from,
            .width = column.count,
            .outer = row.source_step * source.width * source.channels,
            .inner = column.source_step * source.channels,
            .height = row.count,
            .image = source.pixels * source.channels},
      .b = operands[0],
      .segments = segments,
      .segment_count = count,
      .y = {.base = to + (row.first * target.width + column.first) * target.channels,
            .width = column.count,
            .outer = row.step * target.width * target.channels,
            .inner = column.step * target.channels,
            .height = row.count,
            .image = target.pixels * target.channels},
      .bias = bias,
      .relu = relu,
      .adds = adds};
  // Of the lines that a line of target pixels reads, the last ones are new to them. Pixels of few
  // channels share their cache lines: there is too little to fetch.
  const int64_t line = source.width * source.channels;
  if (count > 0 && row.count > 1 && column.count > 1 && c.a.inner >= kFewChannels) {
    const auto by_a = [](const Segment& a, const Segment& b) { return a.a < b.a; };
    c.ahead_stretches = std::min(row.source_step, row.taps);
    c.ahead = std::max_element(segments, segments + count, by_a)->a + c.a.outer;
    c.ahead_step = -line;
    c.ahead_floats = c.a.inner;
  }
  const int64_t pixels = samples * row.count * column.count;
  if (depthwise_) return kernels.contract_rows_depthwise(c, 0, pixels);
  for (int64_t g = 0; g < groups_; ++g) {
    c.b = operands[g];
    kernels.contract_rows(c, 0, pixels);
    c.a.base += source.group_channels;
    c.y.base += target.group_channels;
    if (c.bias != nullptr) c.bias += target.group_channels;
  }
}

void Convolution::Forward(const KernelTable& kernels, const RightOperand* operands, int64_t samples,
                          const float* x, const float* bias, bool relu, Segment* segments,
                          float* y) const {
  ForForwardClasses(h_, [&](const PixelClass& row) {
    ForForwardClasses(w_, [&](const PixelClass& column) {
      Contract(kernels, operands, samples, row, column, x_, x, y_, y, bias, relu,
               /*adds=*/false, segments);
    });
  });
}

void Convolution::InputGradient(const KernelTable& kernels, const RightOperand* operands,
                                int64_t samples, const float* dy, bool adds, Segment* segments,
                                float* dx) const {
  ForGradientClasses(h_, [&](const PixelClass& row) {
    ForGradientClasses(w_, [&](const PixelClass& column) {
      Contract(kernels, operands, samples, row, column, y_, dy, x_, dx, nullptr,
               /*relu=*/false, adds, segments);
    });
  });
}

bool Convolution::pads_copy() const {
  return groups_ == 1 && x_.channels < kFewChannels && w_.dilation == 1 && HasBorders(w_);
}

int64_t Convolution::gradient_scratch_floats(int64_t samples) const {
  if (!pads_copy()) return 0;
  const int64_t width = (w_.out - 1) * w_.stride + w_.kernel;
  return samples * h_.in * width * x_.channels;
}

void Convolution::KernelGradient(const KernelTable& kernels, int64_t samples, const float* x,
                                 const float* dy, bool continues, float* scratch,
                                 float* gradient) const {
  ConvolutionAxis w = w_;
  if (pads_copy()) {
    w.in = (w.out - 1) * w.stride + w.kernel;
    w.pad = 0;
    const int64_t left = w_.pad * x_.channels;
    const int64_t inside = std::min(w_.in, w.in - w_.pad) * x_.channels;
    const int64_t line = w.in * x_.channels;
    for (int64_t i = 0; i < samples * h_.in; ++i) {
      float* to = scratch + i * line;
      std::fill_n(to, left, 0.0f);
      std::copy_n(x + i * w_.in * x_.channels, inside, to + left);
      std::fill_n(to + left + inside, line - left - inside, 0.0f);
    }
    x = scratch;
  }
  // Taps that lie together in x share their tiles where they also sum over the same pixels.
  const int64_t together =
      w.dilation == 1 && (groups_ == 1 || depthwise_) && !HasBorders(w) ? w.kernel : 1;
  const int64_t together_rows = together == w.kernel && groups_ == 1 && !HasBorders(h_) &&
                                        w.kernel * x_.channels < kFewInKernelRow
                                    ? h_.kernel
                                    : 1;
  const int64_t columns_of_w = depthwise_ ? y_.channels : y_.group_channels;
  const int64_t x_line = w.in * x_.channels;
  // Output pixels along an axis for which tap k is inside the image.
  const auto first = [](const ConvolutionAxis& a, int64_t k) {
    return std::max<int64_t>(0, CeilDiv(a.pad - k * a.dilation, a.stride));
  };
  const auto last = [](const ConvolutionAxis& a, int64_t k) {
    const int64_t room = a.in - 1 + a.pad - k * a.dilation;
    return room < 0 ? -1 : std::min(a.out - 1, room / a.stride);
  };
  for (int64_t i = 0; i < h_.kernel; i += together_rows) {
    for (int64_t j = 0; j < w.kernel; j += together) {
      const int64_t begin = first(w, j), end = last(w, j + together - 1) + 1;
      const int64_t top = first(h_, i), bottom = last(h_, i);
      for (int64_t g = 0; g < (depthwise_ ? 1 : groups_); ++g) {
        RunList runs(kernels, depthwise_,
                     {.x = x + g * x_.group_channels,
                      .dy = dy + g * y_.group_channels,
                      .runs = nullptr,
                      .run_count = 0,
                      .x_stride = w.stride * x_.channels,
                      .dy_stride = y_.channels,
                      .rows = together_rows * together * x_.group_channels,
                      .columns = columns_of_w,
                      .w = gradient + (i * w.kernel + j) * x_.group_channels * y_.channels +
                           g * y_.group_channels,
                      .w_stride = y_.channels,
                      .continues = continues,
                      .group = together_rows > 1 ? together * x_.group_channels : 0,
                      .group_step = h_.dilation * x_line});
        for (int64_t n = 0; n < samples && begin < end; ++n) {
          for (int64_t o = top; o <= bottom; ++o) {
            const int64_t line = n * h_.in + o * h_.stride + i * h_.dilation - h_.pad;
            const int64_t pixel = begin * w.stride + j * w.dilation - w.pad;
            runs.Add(line * x_line + pixel * x_.channels,
                     ((n * h_.out + o) * w.out + begin) * y_.channels, end - begin);
          }
        }
        runs.Flush();
      }
    }
  }
}

}  // namespace lockstep::kernels
