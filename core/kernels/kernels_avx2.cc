#include <immintrin.h>

#include "core/kernels/kernels.h"

#define LOCKSTEP_INSTRUCTION_SET avx2
#define LOCKSTEP_INSTRUCTION_SET_NAME "avx2"
#define LOCKSTEP_SIMD "core/kernels/simd_avx2.h"
#include "core/kernels/instruction_set.inl"
