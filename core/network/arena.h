#ifndef LOCKSTEP_CORE_NETWORK_ARENA_H_
#define LOCKSTEP_CORE_NETWORK_ARENA_H_

#include <cstdint>
#include <span>

namespace lockstep {

// A piece of memory that is in use from time `first` to time `last`, both included.
struct ArenaPiece {
  int64_t bytes = 0;
  int first = 0;
  int last = 0;
  int64_t offset = 0;  // planned; a multiple of 64
};

// Places the pieces so that no two overlap in both time and memory; largest first, each in the
// lowest gap. Returns the bytes of the whole arena.
int64_t PlanArena(std::span<ArenaPiece* const> pieces);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_ARENA_H_
