#ifndef LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_
#define LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_

#include <algorithm>
#include <cstdint>

namespace lockstep {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One spatial axis of a convolution: output o sees, with tap k, the input at
// o * stride + k * dilation - pad_before.
struct ConvolutionAxis {
  int64_t in;
  int64_t out;
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad_before;
  int64_t pad_after;

  // Padding as in Keras: "same" gives ceil(in / stride) outputs, with an odd total of padding's
  // extra pixel at the end; otherwise there is none.
  static ConvolutionAxis Make(int64_t in, int64_t kernel, int64_t stride, int64_t dilation,
                              bool same) {
    const int64_t extent = Extent(kernel, dilation);
    if (!same) return {in, (in - extent) / stride + 1, kernel, stride, dilation, 0, 0};
    const int64_t out = CeilDiv(in, stride);
    const int64_t pad = std::max<int64_t>(0, (out - 1) * stride + extent - in);
    return {in, out, kernel, stride, dilation, pad / 2, pad - pad / 2};
  }

  // Pixels from the first tap to the last.
  static int64_t Extent(int64_t kernel, int64_t dilation) { return (kernel - 1) * dilation + 1; }

  int64_t padded() const { return pad_before + in + pad_after; }

  // For the input gradient dy is padded with zeros, so that every tap of every pixel reads
  // something.
  int64_t gradient_before() const { return CeilDiv((kernel - 1) * dilation, stride); }
  int64_t gradient_padded() const {
    return gradient_before() + std::max(out, (in - 1 + pad_before) / stride + 1);
  }
};

// The input pixels first, first + stride, ... along one axis see the same taps: those k with
// (pixel + pad_before - k * dilation) a multiple of the stride.
struct PixelClass {
  int64_t remainder;  // of (pixel + pad_before) / stride
  int64_t first;
  int64_t count;

  static PixelClass Make(const ConvolutionAxis& axis, int64_t remainder) {
    const int64_t first = (remainder - axis.pad_before % axis.stride + axis.stride) % axis.stride;
    return {remainder, first, first < axis.in ? CeilDiv(axis.in - first, axis.stride) : 0};
  }

  bool Sees(const ConvolutionAxis& axis, int64_t k) const {
    return k * axis.dilation % axis.stride == remainder;
  }

  // Line of the padded dy that tap k of the first pixel reads.
  int64_t Line(const ConvolutionAxis& axis, int64_t k) const {
    return (first + axis.pad_before - k * axis.dilation) / axis.stride + axis.gradient_before();
  }
};

// Copies one image of `height` lines of `line` floats into the middle of a larger one, zero
// elsewhere.
inline void PadImage(const float* src, int64_t height, int64_t line, float* dst, int64_t dst_height,
                     int64_t dst_line, int64_t top, int64_t left) {
  const int64_t right = dst_line - left - line;
  float* end = dst + dst_height * dst_line;
  dst = std::fill_n(dst, top * dst_line, 0.0f);
  for (int64_t i = 0; i < height; ++i) {
    dst = std::fill_n(dst, left, 0.0f);
    dst = std::copy_n(src + i * line, line, dst);
    dst = std::fill_n(dst, right, 0.0f);
  }
  std::fill(dst, end, 0.0f);
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_CONVOLUTION_GEOMETRY_H_
