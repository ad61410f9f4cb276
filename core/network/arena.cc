#include "core/network/arena.h"

#include <algorithm>
#include <vector>

namespace lockstep {

int64_t PlanArena(std::span<ArenaPiece* const> pieces) {
  const auto rounded = [](const ArenaPiece& piece) { return (piece.bytes + 63) / 64 * 64; };
  std::vector<ArenaPiece*> order(pieces.begin(), pieces.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const ArenaPiece* a, const ArenaPiece* b) { return a->bytes > b->bytes; });
  std::vector<const ArenaPiece*> placed;  // by offset
  int64_t total = 0;
  for (ArenaPiece* piece : order) {
    const int64_t bytes = rounded(*piece);
    int64_t offset = 0;
    for (const ArenaPiece* other : placed) {
      if (other->last < piece->first || piece->last < other->first) continue;
      if (other->offset >= offset + bytes) break;
      offset = std::max(offset, other->offset + rounded(*other));
    }
    piece->offset = offset;
    total = std::max(total, offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), piece,
                                   [](const ArenaPiece* a, const ArenaPiece* b) {
                                     return a->offset < b->offset;
                                   }),
                  piece);
  }
  return total;
}

}  // namespace lockstep
