#include "core/network/orthogonal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/numerics/normal.h"

namespace lockstep {
namespace {

// Eight sums by k mod 8, so that the order is defined and the additions need not wait for one
// another.
double Product(const double* a, const double* b, int64_t n) {
  double sum[8] = {};
  int64_t k = 0;
  for (; k + 8 <= n; k += 8) {
    for (int64_t i = 0; i < 8; ++i) sum[i] += a[k + i] * b[k + i];
  }
  for (int64_t i = 0; k + i < n; ++i) sum[i] += a[k + i] * b[k + i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

}  // namespace

// Gram and Schmidt's process, each vector made orthogonal to those before it twice: once would
// leave the error of its cancellation (Giraud et al., "The loss of orthogonality in the
// Gram-Schmidt orthogonalization process", 2005).
void FillOrthogonal(const Random& random, int64_t rows, int64_t columns, float gain,
                    std::span<float> values) {
  const int64_t length = std::max(rows, columns);
  const int64_t count = std::min(rows, columns);
  // The vectors are the columns of a matrix [length, count], whose elements are numbered by rows.
  std::vector<double> vectors(length * count);
  for (int64_t i = 0; i < length * count; i += 4) {
    const auto bits = random.Block(0, static_cast<uint32_t>(i / 4));
    for (int64_t j = i; j < std::min(i + 4, length * count); ++j) {
      vectors[j % count * length + j / count] = NormalFromBits(bits[j - i]);
    }
  }
  for (int64_t v = 0; v < count; ++v) {
    double* vector = vectors.data() + v * length;
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t u = 0; u < v; ++u) {
        const double* before = vectors.data() + u * length;
        const double product = Product(before, vector, length);
        for (int64_t k = 0; k < length; ++k) vector[k] -= product * before[k];
      }
    }
    const double norm = std::sqrt(Product(vector, vector, length));
    for (int64_t k = 0; k < length; ++k) vector[k] /= norm;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const double q = rows >= columns ? vectors[c * length + r] : vectors[r * length + c];
      values[r * columns + c] = static_cast<float>(gain * q);
    }
  }
}

}  // namespace lockstep
