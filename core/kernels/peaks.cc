#include "core/kernels/peaks.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

#include "core/tensor/aligned_buffer.h"

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

// The shortest of some turns, in seconds: what a machine can do shows when nobody else is at it.
double ShortestTurn(absl::FunctionRef<void()> turn) {
  using Seconds = std::chrono::duration<double>;
  constexpr int kTurns = 12;
  Seconds shortest = Seconds::max();
  for (int i = 0; i < kTurns; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    turn();
    shortest = std::min<Seconds>(shortest, std::chrono::steady_clock::now() - begin);
  }
  return shortest.count();
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

Peaks MeasurePeaks(ThreadPool& pool) {
  // Some pieces a thread, because a thread may come late.
  const int64_t pieces = 8 * pool.threads();
  const double flops = BurnMultiplyAdds() * static_cast<double>(pieces);
  const double burn_s =
      ShortestTurn([&] { pool.ParallelFor(pieces, [](int64_t, int) { BurnMultiplyAdds(); }); });

  constexpr int64_t kFloats = int64_t{32} << 20;  // 128 MB, more than caches hold
  const AlignedBuffer<float> memory(kFloats);
  const int64_t share = kFloats / pieces / 64 * 64;
  const double read_s = ShortestTurn([&] {
    pool.ParallelFor(pieces, [&](int64_t i, int) { ReadFloats(memory.data() + i * share, share); });
  });
  return {.flops_per_second = flops / burn_s,
          .bytes_per_second = static_cast<double>(share * pieces) * sizeof(float) / read_s};
}

Peaks MeasureCorePeaks() {
  constexpr int64_t kFloats = int64_t{64} << 10;  // 256 KB
  constexpr int kReads = 16;
  const AlignedBuffer<float> cached(kFloats);
  const double flops = BurnMultiplyAdds();
  const double burn_s = ShortestTurn([] { BurnMultiplyAdds(); });
  const double read_s = ShortestTurn([&] {
    for (int i = 0; i < kReads; ++i) ReadFloats(cached.data(), kFloats);
  });
  return {.flops_per_second = flops / burn_s,
          .bytes_per_second = static_cast<double>(kReads * kFloats) * sizeof(float) / read_s};
}

}  // namespace lockstep
