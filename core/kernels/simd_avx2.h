// The vector operations of the kernels for x86-64-v3. Included once, inside the kernels' namespace
// of this instruction set, by kernels_avx2.cc; simd_avx512.h says what each one does.

#include "core/kernels/simd_x86.h"

constexpr int kLanes = 8;
constexpr int kTileVectors = 2;
constexpr int kTileRows[kTileVectors + 1] = {0, 8, 6};

// Vectors of channels that sums over rows, and BatchNorm, keep in registers at once.
constexpr int kSumVectors = 1;
constexpr int kNormalizeVectors = 2;

using Vec = __m256;
using Mask = __m256;

static inline Vec Zero() { return _mm256_setzero_ps(); }
static inline Vec Set(float x) { return _mm256_set1_ps(x); }
static inline Vec SetBits(int32_t x) { return _mm256_castsi256_ps(_mm256_set1_epi32(x)); }
static inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
static inline void Store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
static inline __m256i FirstLanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline Vec LoadFirst(const float* p, int n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
static inline void StoreFirst(float* p, int n, Vec x) { _mm256_maskstore_ps(p, FirstLanes(n), x); }

static inline Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
static inline Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
static inline Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
static inline Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
static inline Vec Sqrt(Vec a) { return _mm256_sqrt_ps(a); }
static inline Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline Vec Abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline Vec Round(Vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline Vec PowerOfTwo(Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline Mask Greater(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
static inline Mask IsNan(Vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
static inline Mask EqualBits(Vec a, Vec b) {
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline Mask Or(Mask a, Mask b) { return _mm256_or_ps(a, b); }
static inline Vec Select(Mask m, Vec if_set, Vec otherwise) {
  return _mm256_blendv_ps(otherwise, if_set, m);
}
static inline Vec LoadBytes(const uint8_t* p, int n) {
  uint64_t bytes = 0;
  __builtin_memcpy(&bytes, p, n == kLanes ? kLanes : n);
  return _mm256_castsi256_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes))));
}
static inline void StoreBytes(uint8_t* p, int n, Vec x) {
  const __m256i lanes = _mm256_castps_si256(x);
  const __m128i halves =
      _mm_packus_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  const int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(halves, halves));
  __builtin_memcpy(p, &bytes, n == kLanes ? kLanes : n);
}
static inline Vec IntegersToFloats(Vec x) { return _mm256_cvtepi32_ps(_mm256_castps_si256(x)); }
