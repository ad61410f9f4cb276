// The vector operations of the kernels for x86-64-v4. Included once, inside the kernels' namespace
// of this instruction set, by kernels_avx512.cc; simd_avx2.h has the same for x86-64-v3, and a port
// adds one more such file.

#include "core/kernels/simd_x86.h"

constexpr int kLanes = 16;
// Tile of contract_rows and contract_columns: accumulators of kTileRows[vectors] rows and up to
// kTileVectors vectors fit the registers beside the operands.
constexpr int kTileVectors = 4;
constexpr int kTileRows[kTileVectors + 1] = {0, 16, 14, 9, 6};

// Vectors of channels that sums over rows, and BatchNorm, keep in registers at once.
constexpr int kSumVectors = 2;
constexpr int kNormalizeVectors = 4;

using Vec = __m512;
using Mask = __mmask16;

static inline Vec Zero() { return _mm512_setzero_ps(); }
static inline Vec Set(float x) { return _mm512_set1_ps(x); }
// An integer in every lane, as Vec's bits; EqualBits compares such.
static inline Vec SetBits(int32_t x) { return _mm512_castsi512_ps(_mm512_set1_epi32(x)); }
static inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
static inline void Store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
// The first n lanes, 0 < n <= kLanes; the others are zero, or left alone in memory.
static inline Mask FirstLanes(int n) { return static_cast<Mask>((1u << n) - 1u); }
static inline Vec LoadFirst(const float* p, int n) {
  return _mm512_maskz_loadu_ps(FirstLanes(n), p);
}
static inline void StoreFirst(float* p, int n, Vec x) {
  _mm512_mask_storeu_ps(p, FirstLanes(n), x);
}

static inline Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
static inline Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
static inline Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
static inline Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
static inline Vec Sqrt(Vec a) { return _mm512_sqrt_ps(a); }
// a * b + c, rounded once.
static inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline Vec Abs(Vec a) { return _mm512_abs_ps(a); }
// To the nearest integer, halves to even.
static inline Vec Round(Vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// 2^n for integral n within [-126, 127].
static inline Vec PowerOfTwo(Vec n) {
  const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

static inline Mask Greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline Mask IsNan(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
static inline Mask EqualBits(Vec a, Vec b) {
  return _mm512_cmpeq_epi32_mask(_mm512_castps_si512(a), _mm512_castps_si512(b));
}
static inline Mask Or(Mask a, Mask b) { return static_cast<Mask>(a | b); }
static inline Vec Select(Mask m, Vec if_set, Vec otherwise) {
  return _mm512_mask_blend_ps(m, otherwise, if_set);
}
// An integer in each of the first n lanes, 0 < n <= kLanes, from and to bytes.
static inline Vec LoadBytes(const uint8_t* p, int n) {
  const __m128i bytes = n == kLanes ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
                                    : _mm_maskz_loadu_epi8(FirstLanes(n), p);
  return _mm512_castsi512_ps(_mm512_cvtepu8_epi32(bytes));
}
static inline void StoreBytes(uint8_t* p, int n, Vec x) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(x));
  if (n == kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  } else {
    _mm_mask_storeu_epi8(p, FirstLanes(n), bytes);
  }
}
static inline Vec IntegersToFloats(Vec x) { return _mm512_cvtepi32_ps(_mm512_castps_si512(x)); }
