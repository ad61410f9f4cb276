// What simd_avx2.h and simd_avx512.h share. Included inside the kernels' namespace.

constexpr int kTransposeSize = 8;

// dst[j, i] = src[i, j], both kTransposeSize square, rows so many floats apart.
static inline void TransposeSquare(const float* src, int64_t stride, float* dst,
                                   int64_t dst_stride) {
  __m256 row[8], pair[8], quad[8];
  for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(src + i * stride);
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      quad[i + 2 * j] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0x44);
      quad[i + 2 * j + 1] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0xee);
    }
  }
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(dst + j * dst_stride, _mm256_permute2f128_ps(quad[j], quad[j + 4], 0x20));
    _mm256_storeu_ps(dst + (j + 4) * dst_stride,
                     _mm256_permute2f128_ps(quad[j], quad[j + 4], 0x31));
  }
}

// The cache line at p, or nothing if there is none.
constexpr int64_t kLineFloats = 16;
static inline void Prefetch(const float* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}
