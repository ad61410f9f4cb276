#ifndef LOCKSTEP_CORE_NETWORK_ORTHOGONAL_H_
#define LOCKSTEP_CORE_NETWORK_ORTHOGONAL_H_

#include <cstdint>
#include <span>

#include "core/numerics/random.h"

namespace lockstep {

// The most work that FillOrthogonal may be asked for, as rows * columns * the smaller of them
// (about ten seconds), and the most values.
inline constexpr int64_t kMaxOrthogonalWork = int64_t{1} << 33;
inline constexpr int64_t kMaxOrthogonalValues = int64_t{1} << 24;

// values[rows, columns] = gain times a matrix of orthonormal columns, or of orthonormal rows where
// it has fewer of those, uniformly distributed: Q of the QR decomposition with positive diagonal
// of a matrix of normal numbers (Saxe et al., "Exact solutions to the nonlinear dynamics of
// learning in deep linear neural networks", 2014; core/README.md, rule 10).
void FillOrthogonal(const Random& random, int64_t rows, int64_t columns, float gain,
                    std::span<float> values);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_ORTHOGONAL_H_
