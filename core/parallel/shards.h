#ifndef LOCKSTEP_CORE_PARALLEL_SHARDS_H_
#define LOCKSTEP_CORE_PARALLEL_SHARDS_H_

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

// First position of shard v of S in a batch of `samples` (core/README.md, rule 4); v = S gives
// `samples`.
inline int64_t ShardBegin(int64_t samples, int shards, int v) {
  return static_cast<int64_t>(static_cast<__int128>(v) * samples / shards);
}

// S when the job does not say: 1 below 64 samples, else the largest power of two up to
// batch_size / 32, at most 8.
inline int DefaultShards(int64_t batch_size) {
  if (batch_size < 64) return 1;
  return static_cast<int>(
      std::bit_floor(static_cast<uint64_t>(batch_size < 256 ? batch_size / 32 : 8)));
}

// A node of the shard tree: the shards [begin, end).
struct ShardNode {
  int begin = 0;
  int end = 0;
};

// Evaluates one node of the contract's binary tree (rule 5) from its leaves, given left to right:
// with P the next power of two >= leaves, combine(first P/2 leaves, the rest), left first; an empty
// side passes the other through.
//
// The caller owns the values; the reducer only says what to do with a stack of them. For each leaf
// in order: make it the top of the stack, then merge the two topmost values (the lower one is the
// left) PushMerges() times; after the last leaf merge FinalMerges() times. The stack is never
// deeper than Depth(leaves).
class TreeReducer {
 public:
  static int Depth(int leaves) { return std::bit_width(static_cast<unsigned>(leaves)); }

  int PushMerges() { return std::countr_one(pushed_++); }
  int FinalMerges() const { return std::popcount(pushed_) - 1; }

 private:
  unsigned pushed_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_PARALLEL_SHARDS_H_
