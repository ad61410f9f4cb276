#ifndef LOCKSTEP_TESTS_BENCH_KERNEL_PEAKS_H_
#define LOCKSTEP_TESTS_BENCH_KERNEL_PEAKS_H_

#include <cstdint>

// The best one core of this machine does, as loops to be timed. They need AVX2 and FMA.
namespace lockstep {

// Fused multiply-adds that touch no memory; returns the floating-point operations done.
double BurnMultiplyAdds();
// Reads n floats once; n a multiple of 64.
void ReadFloats(const float* x, int64_t n);

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_BENCH_KERNEL_PEAKS_H_
