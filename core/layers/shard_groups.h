#ifndef LOCKSTEP_CORE_LAYERS_SHARD_GROUPS_H_
#define LOCKSTEP_CORE_LAYERS_SHARD_GROUPS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "core/layers/layer.h"

namespace lockstep {

// The groups of consecutive shards that are normalised together, as far as this worker has them: a
// power of two of shards each, so that a group is a node of the tree or lies within one. Group
// numbers count from this worker's first.
class ShardGroups {
 public:
  // `group_shards` 0: all shards are one group. The step must outlive it.
  ShardGroups(const StepContext& step, int64_t group_shards);

  // A local node's shards of one group, as in Batch::nodes; ascending, and so are their groups.
  std::span<const ShardNode> parts() const { return {parts_.data(), static_cast<size_t>(count_)}; }
  int groups() const { return groups_; }
  int first_part(int group) const { return first_part_[group]; }
  int group(int shard) const {
    int g = groups_ - 1;
    while (parts_[first_part_[g]].begin > shard) --g;
    return g;
  }

  // Calls body(group, first sample, samples) for what each group has of a tile; samples as the
  // tile's.
  template <typename Body>
  void ForTile(const Tile& tile, Body body) const {
    for (int g = 0; g < groups_; ++g) {
      const int last = g + 1 < groups_ ? first_part_[g + 1] - 1 : count_ - 1;
      const int64_t begin = std::max(tile.begin, batch_.shard_begin[parts_[first_part_[g]].begin]);
      const int64_t end = std::min(tile.begin + tile.samples, batch_.shard_begin[parts_[last].end]);
      if (begin < end) body(g, begin, end - begin);
    }
  }

  // Sums over the tree of all workers' groups (core/README.md, rule 6): `rows` holds a row of
  // `width` doubles for each part, of which the first of each group counts; the sum comes back in
  // row 0.
  void Sum(int64_t width, double* rows) const;

 private:
  static constexpr int kMaxShards = 256;

  void Add(const ShardNode& part, int64_t number);

  const StepContext& step_;
  const Batch& batch_;
  const int64_t group_shards_;
  std::array<ShardNode, kMaxShards> parts_;
  std::array<int, kMaxShards> first_part_;  // by group
  int64_t last_number_ = -1;                // of the newest group, over all workers
  int count_ = 0;
  int groups_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_SHARD_GROUPS_H_
