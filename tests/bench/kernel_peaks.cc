#include "tests/bench/kernel_peaks.h"

#include <immintrin.h>

namespace lockstep {
namespace {

constexpr int64_t kRounds = 100'000;
constexpr int kChains = 12;  // more than latency times throughput of any core

__attribute__((target("avx2,fma"))) void Burn256() {
  __m256 sum[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum[c] = _mm256_set1_ps(1.0f / static_cast<float>(c + 1));
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = _mm256_fmadd_ps(sum[c], sum[c], sum[c]);
  }
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) asm volatile("" : : "x"(sum[c]));
}

__attribute__((target("avx512f"))) void Burn512() {
  __m512 sum[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum[c] = _mm512_set1_ps(1.0f / static_cast<float>(c + 1));
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(sum[c], sum[c], sum[c]);
  }
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) asm volatile("" : : "v"(sum[c]));
}

}  // namespace

double BurnMultiplyAdds() {
  const bool wide = __builtin_cpu_supports("avx512f");
  if (wide) {
    Burn512();
  } else {
    Burn256();
  }
  return 2.0 * kRounds * kChains * (wide ? 16 : 8);
}

__attribute__((target("avx2"))) void ReadFloats(const float* x, int64_t n) {
  __m256 any[8];
  for (__m256& a : any) a = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; i += 64) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) any[j] = _mm256_or_ps(any[j], _mm256_loadu_ps(x + i + j * 8));
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) asm volatile("" : : "x"(any[j]));
}

}  // namespace lockstep
