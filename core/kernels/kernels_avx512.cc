#include <immintrin.h>

#include "core/kernels/kernels.h"

#define LOCKSTEP_INSTRUCTION_SET avx512
#define LOCKSTEP_INSTRUCTION_SET_NAME "avx512"
#define LOCKSTEP_SIMD "core/kernels/simd_avx512.h"
#include "core/kernels/instruction_set.inl"
