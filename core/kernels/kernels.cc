#include "core/kernels/kernels.h"

// Compiled for the baseline: this is what runs before anybody knows what the CPU can do.
namespace lockstep::kernels {

namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}

namespace {

struct Available {
  const KernelTable* sets[3] = {nullptr, nullptr, nullptr};
  int count = 0;

  Available() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")) {
      sets[count++] = &avx2::kTable;
    }
    if (count == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      sets[count++] = &avx512::kTable;
    }
  }
};

const Available& GetAvailable() {
  static const Available available;
  return available;
}

}  // namespace

const KernelTable* Kernels() {
  const Available& available = GetAvailable();
  return available.count == 0 ? nullptr : available.sets[available.count - 1];
}

bool DifferentiatesFromInput(Activation activation) {
  switch (activation) {
    case Activation::kElu:
    case Activation::kGelu:
    case Activation::kGeluTanh:
    case Activation::kSilu:
    case Activation::kSoftplus:
      return true;
    default:
      return false;
  }
}

int64_t PackedFloats(int64_t depth, int64_t columns) {
  constexpr int64_t kMostLanes = 16;
  return depth * ((columns + kMostLanes - 1) / kMostLanes * kMostLanes);
}

const KernelTable* const* AllKernels() { return GetAvailable().sets; }

}  // namespace lockstep::kernels
