#ifndef LOCKSTEP_CORE_LAYERS_ROWS_H_
#define LOCKSTEP_CORE_LAYERS_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "core/parallel/thread_pool.h"

namespace lockstep {

// Splits [0, rows) over the pool: body(begin, end). For work whose bits no split can change. Ranges
// have at least `least` rows; one thread takes all in one.
template <typename Body>
void ParallelRows(ThreadPool& pool, int64_t rows, int64_t least, Body body) {
  const int64_t pieces = pool.threads() == 1
                             ? (rows > 0 ? 1 : 0)
                             : std::min<int64_t>(4 * pool.threads(), (rows + least - 1) / least);
  pool.ParallelFor(pieces, [&](int64_t piece, int) {
    body(piece * rows / pieces, (piece + 1) * rows / pieces);
  });
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_ROWS_H_
