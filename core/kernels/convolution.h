#ifndef LOCKSTEP_CORE_KERNELS_CONVOLUTION_H_
#define LOCKSTEP_CORE_KERNELS_CONVOLUTION_H_

#include <cstdint>

#include "core/kernels/kernels.h"

namespace lockstep::kernels {

// One spatial axis: output pixel o sees input pixels o * stride + k * dilation - pad, 0 <= k <
// kernel.
struct ConvolutionAxis {
  int64_t in;
  int64_t out;
  int64_t kernel;
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t pad = 0;  // before the first pixel; behind the last one it follows from `out`
};

// A convolution of x [N, H, W, channels] with a kernel [kh, kw, channels / groups, filters] as
// calls of the contractions: no patches are gathered, and padding is neither stored nor multiplied.
// Pixels that see the same taps form a class (inner pixels, each border, each corner; with a stride
// also each remainder of the input gradient's) and one contraction computes a class, over all
// samples of a call. The inner loop is RowTile, or ColumnTile, in contraction.inl.
//
// One channel and one filter a group (depthwise) go through the depthwise contractions.
//
// Holds nothing that grows with the sizes. Immutable, so safe for any number of threads. A call
// takes as many samples as the caller wants in the cache at once; the bits of a sample do not
// depend on the others.
class Convolution {
 public:
  Convolution(const ConvolutionAxis& h, const ConvolutionAxis& w, int64_t channels, int64_t filters,
              int64_t groups);

  // What a pass multiplies by, packed once for many calls: one operand a group in `operands`.
  // `packed` has packed_floats() and must stay, as `kernel` must.
  int64_t packed_floats() const;
  void PackForward(const KernelTable& kernels, const float* kernel, float* packed,
                   RightOperand* operands) const;
  void PackInputGradient(const KernelTable& kernels, const float* kernel, float* packed,
                         RightOperand* operands) const;

  // `segments` has room for segments() and means nothing afterwards. y = ReLU(x (*) kernel + bias),
  // the last two if asked for.
  int64_t segments() const;
  void Forward(const KernelTable& kernels, const RightOperand* operands, int64_t samples,
               const float* x, const float* bias, bool relu, Segment* segments, float* y) const;
  // dx = or, with `adds`, dx += the gradient.
  void InputGradient(const KernelTable& kernels, const RightOperand* operands, int64_t samples,
                     const float* dy, bool adds, Segment* segments, float* dx) const;

  // One chunk of the kernel's gradient, or with `continues` its next samples. `scratch` has
  // gradient_scratch_floats(samples).
  int64_t gradient_scratch_floats(int64_t samples) const;
  void KernelGradient(const KernelTable& kernels, int64_t samples, const float* x, const float* dy,
                      bool continues, float* scratch, float* gradient) const;

 private:
  // A side of the contraction: an image and the channels that one group has of it.
  struct Image {
    int64_t width, pixels, channels, group_channels;
  };
  struct PixelClass;

  template <typename Body>
  static void ForForwardClasses(const ConvolutionAxis& axis, Body body);
  template <typename Body>
  static void ForGradientClasses(const ConvolutionAxis& axis, Body body);
  int64_t WriteSegments(const PixelClass& row, const PixelClass& column, const Image& source,
                        Segment* segments) const;
  // The pixels of a class of rows and one of columns.
  void Contract(const KernelTable& kernels, const RightOperand* operands, int64_t samples,
                const PixelClass& row, const PixelClass& column, const Image& source,
                const float* from, const Image& target, float* to, const float* bias, bool relu,
                bool adds, Segment* segments) const;
  bool pads_copy() const;

  const ConvolutionAxis h_, w_;
  const int64_t groups_;
  const bool depthwise_;
  const Image x_, y_;
};

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_CORE_KERNELS_CONVOLUTION_H_
