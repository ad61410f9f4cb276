#ifndef LOCKSTEP_TESTS_BENCH_KERNEL_CASES_H_
#define LOCKSTEP_TESTS_BENCH_KERNEL_CASES_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "core/kernels/kernels.h"

// What kernel_bench measures: matrix products and convolutions, each as our layers compute it (with
// the packing, padding and transposing that belong to it) and as oneDNN does.
namespace lockstep {

// A call that is ready to run, with its operands; null when there is none.
using Call = std::function<void()>;

enum class GemmKind { kNN, kNT, kTN };

// c[m, n] = a * b over k, where a and b are [m, k] and [k, n], or the transpose of either: NN is a
// dense layer's forward, NT its input gradient, TN its weight gradient.
struct GemmCase {
  GemmKind kind;
  int64_t m, n, k;

  double flops() const { return 2.0 * static_cast<double>(m * n * k); }
};

enum class ConvPass { kForward, kInputGradient, kWeightGradient };

// A square convolution of `batch` images [size, size, in].
struct ConvCase {
  int64_t batch, size, in, filters, kernel, stride, pad;

  int64_t out() const { return (size + 2 * pad - kernel) / stride + 1; }
  // Pad after the image that the last window reaches; less than `pad` when a stride skips it.
  int64_t padded() const { return (out() - 1) * stride + kernel; }
  double flops() const {
    return 2.0 * static_cast<double>(batch * out() * out() * filters * kernel * kernel * in);
  }
};

Call OurGemm(const kernels::KernelTable& kernels, const GemmCase& c);
Call OurConv(const kernels::KernelTable& kernels, const ConvCase& c, ConvPass pass);

// Empty when this was built without oneDNN.
const char* PeerName();
Call PeerGemm(const GemmCase& c);
// In the layout it likes best, not counting how to get there; or channels last, as ours is.
Call PeerConv(const ConvCase& c, ConvPass pass, bool channels_last);

// Random values, on a cache line.
std::shared_ptr<float[]> RandomFloats(int64_t n);

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_BENCH_KERNEL_CASES_H_
