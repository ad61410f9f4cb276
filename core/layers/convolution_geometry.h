#ifndef LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_
#define LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace lockstep {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a row of lines along one spatial axis reads: line m sees, with its tap number t, line
// m * stride + first_source + t * source_step of the other image, if that has such a line. Taps
// that fall outside are skipped: with finite values they would add nothing (core/README.md, rule
// 1).
struct TapAxis {
  int64_t lines;
  int64_t stride;
  int64_t taps;
  int64_t first_source;
  int64_t source_step;
  int64_t source_lines;
  // Tap t is the kernel's first_kernel + t * kernel_step.
  int64_t first_kernel;
  int64_t kernel_step;

  int64_t Source(int64_t line, int64_t tap) const {
    return line * stride + first_source + tap * source_step;
  }
  int64_t Kernel(int64_t tap) const { return first_kernel + tap * kernel_step; }
  bool Inside(int64_t line, int64_t tap) const {
    const int64_t source = Source(line, tap);
    return source >= 0 && source < source_lines;
  }
};

// Consecutive lines that see the same taps [tap_begin, tap_end).
struct TapRegion {
  int64_t first;
  int64_t lines;
  int64_t tap_begin;
  int64_t tap_end;

  int64_t taps() const { return tap_end - tap_begin; }
};

// Calls body(region) for all lines, in order.
template <typename Body>
void ForTapRegions(const TapAxis& axis, Body body) {
  const auto region_of = [&](int64_t line) {
    TapRegion region = {line, 1, 0, axis.taps};
    while (region.taps() > 0 && !axis.Inside(line, region.tap_begin)) ++region.tap_begin;
    while (region.taps() > 0 && !axis.Inside(line, region.tap_end - 1)) --region.tap_end;
    if (region.taps() == 0) region.tap_begin = region.tap_end = 0;
    return region;
  };
  for (int64_t line = 0; line < axis.lines;) {
    TapRegion region = region_of(line);
    while (++line < axis.lines) {
      const TapRegion next = region_of(line);
      if (next.tap_begin != region.tap_begin || next.tap_end != region.tap_end) break;
      ++region.lines;
    }
    body(region);
  }
}

// The lines that see a tap inside the source: [first, last).
struct LineRange {
  int64_t first;
  int64_t last;
};
inline LineRange LinesInside(const TapAxis& axis, int64_t tap) {
  LineRange range = {0, axis.lines};
  while (range.first < range.last && !axis.Inside(range.first, tap)) ++range.first;
  while (range.first < range.last && !axis.Inside(range.last - 1, tap)) --range.last;
  return range;
}

// One spatial axis of a convolution: output o sees, with tap k, the input at
// o * stride + k * dilation - pad.
struct ConvolutionAxis {
  int64_t in;
  int64_t out;
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;  // before the first input; what follows the last one does not matter

  // Padding as in Keras: "same" gives ceil(in / stride) outputs, with an odd total of padding's
  // extra pixel at the end; otherwise there is none.
  static ConvolutionAxis Make(int64_t in, int64_t kernel, int64_t stride, int64_t dilation,
                              bool same) {
    const int64_t extent = Extent(kernel, dilation);
    if (!same) return {in, (in - extent) / stride + 1, kernel, stride, dilation, 0};
    const int64_t out = CeilDiv(in, stride);
    const int64_t pad = std::max<int64_t>(0, (out - 1) * stride + extent - in);
    return {in, out, kernel, stride, dilation, pad / 2};
  }

  // Pixels from the first tap to the last.
  static int64_t Extent(int64_t kernel, int64_t dilation) { return (kernel - 1) * dilation + 1; }

  // Some tap of some output lies outside the input.
  bool padded() const {
    return pad > 0 || (out - 1) * stride + Extent(kernel, dilation) - pad > in;
  }

  // The outputs and the inputs that they read.
  TapAxis Forward() const {
    return {.lines = out,
            .stride = stride,
            .taps = kernel,
            .first_source = -pad,
            .source_step = dilation,
            .source_lines = in,
            .first_kernel = 0,
            .kernel_step = 1};
  }

  // The inputs first, first + stride, ... see the same taps of the kernel, those k with
  // first + pad - k * dilation a multiple of the stride; `taps` is 0 when there are none.
  struct Backward {
    int64_t first;
    TapAxis axis;  // its lines are those inputs, and read outputs
  };
  Backward BackwardClass(int64_t remainder) const {
    const int64_t first = ((remainder - pad) % stride + stride) % stride;
    const int64_t count = first < in ? CeilDiv(in - first, stride) : 0;
    const int64_t step = stride / std::gcd(stride, dilation);
    int64_t tap = 0;
    while (tap < std::min(step, kernel) && (remainder - tap * dilation) % stride != 0) ++tap;
    const bool none = tap == std::min(step, kernel);
    return {first,
            {.lines = count,
             .stride = 1,
             .taps = none ? 0 : CeilDiv(kernel - tap, step),
             .first_source = (first + pad - tap * dilation) / stride,
             .source_step = -step * dilation / stride,
             .source_lines = out,
             .first_kernel = tap,
             .kernel_step = step}};
  }
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_
