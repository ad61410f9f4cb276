#ifndef LOCKSTEP_CORE_PARALLEL_MOMENTS_H_
#define LOCKSTEP_CORE_PARALLEL_MOMENTS_H_

#include <cstdint>

namespace lockstep {

// {n, mean, M2} of a's values followed by b's, into a: Chan, Golub and LeVeque's update, for `n`
// channels with the same counts. An empty side passes the other through.
inline void MergeMoments(int64_t channels, double& count_a, double* mean_a, double* m2_a,
                         double count_b, const double* mean_b, const double* m2_b) {
  if (count_b == 0) return;
  if (count_a == 0) {
    count_a = count_b;
    for (int64_t c = 0; c < channels; ++c) {
      mean_a[c] = mean_b[c];
      m2_a[c] = m2_b[c];
    }
    return;
  }
  const double count = count_a + count_b;
  const double weight = count_b / count;
  const double cross = count_a * weight;
  for (int64_t c = 0; c < channels; ++c) {
    const double d = mean_b[c] - mean_a[c];
    mean_a[c] = mean_a[c] + d * weight;
    m2_a[c] = (m2_a[c] + m2_b[c]) + (d * d) * cross;
  }
  count_a = count;
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_PARALLEL_MOMENTS_H_
