#ifndef LOCKSTEP_CORE_TENSOR_COLUMNS_H_
#define LOCKSTEP_CORE_TENSOR_COLUMNS_H_

#include <algorithm>
#include <cstdint>

namespace lockstep {

// Copies `columns` values a row between matrices whose rows have `from_row` and `to_row` values;
// `from` and `to` are at the first of these columns. May be the same matrix if `to` is not behind
// `from` and rows do not grow.
inline void CopyColumns(int64_t rows, int64_t columns, const float* from, int64_t from_row,
                        float* to, int64_t to_row) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * from_row, columns, to + r * to_row);
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TENSOR_COLUMNS_H_
