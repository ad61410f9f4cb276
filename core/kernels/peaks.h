#ifndef LOCKSTEP_CORE_KERNELS_PEAKS_H_
#define LOCKSTEP_CORE_KERNELS_PEAKS_H_

#include <cstdint>

#include "core/parallel/thread_pool.h"

// The best this machine does, to hold against what the other loops here reach. Needs AVX2 and FMA.
namespace lockstep {

struct Peaks {
  double flops_per_second = 0;  // of fused multiply-adds in registers
  double bytes_per_second = 0;  // read from memory
};

// Of the pool's threads together; takes about 0.2 s and, meanwhile, 128 MB.
Peaks MeasurePeaks(ThreadPool& pool);

// Of one core, with bytes read from its L2 cache rather than from memory; takes a few milliseconds.
Peaks MeasureCorePeaks();

// What is timed, on one core. Fused multiply-adds that touch no memory; returns the floating-point
// operations done.
double BurnMultiplyAdds();
// Reads n floats once; n a multiple of 64.
void ReadFloats(const float* x, int64_t n);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERNELS_PEAKS_H_
