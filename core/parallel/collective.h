#ifndef LOCKSTEP_CORE_PARALLEL_COLLECTIVE_H_
#define LOCKSTEP_CORE_PARALLEL_COLLECTIVE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "core/parallel/shards.h"

namespace lockstep {

// Combines what the shards of a job computed, always over the same tree, whoever holds which shard.
// One member a worker; every member calls the same functions in the same order with the same sizes
// and gets the same bits.
//
// A failure (a lost worker) sticks: later calls return at once, results are then meaningless, and
// status() tells. So layers need not check; whoever commits a step does.
class Collective {
 public:
  virtual ~Collective() = default;

  // This member's shards, as maximal nodes of the tree, ascending. Kernels reduce within a node and
  // never materialise a single shard's gradients.
  virtual std::span<const ShardNode> local_nodes() const = 0;
  virtual absl::Status status() const = 0;

  // BatchNorm statistics. `moments` holds one row {mean[C], M2[C]} for each local node and `counts`
  // its number of values a channel; the root's come back in the first row and first count.
  // Combination is Chan's (see MergeMoments in moments.h).
  //
  // With `group_shards`, a power of two, instead of 0: so many consecutive shards are combined by
  // themselves. A node that holds several groups has a row for each of them, and what a group
  // combines to comes back in the first of its rows.
  virtual void CombineMoments(int64_t group_shards, int64_t channels, std::span<double> moments,
                              std::span<double> counts) = 0;

  // Sums: one row of `width` doubles for each local node, the root in the first row.
  // `counts[i]` of 0 says that node i has no samples: its row passes the other operand through.
  virtual void CombineSums(int64_t width, std::span<double> sums,
                           std::span<const int64_t> counts) = 0;

  // The same by groups of shards, as in CombineMoments.
  virtual void CombineGroupSums(int64_t group_shards, int64_t width, std::span<double> sums,
                                std::span<const int64_t> counts) = 0;

  // Likewise for gradients in float.
  virtual void CombineGradients(int64_t width, std::span<float> gradients,
                                std::span<const int64_t> counts) = 0;
};

// One worker that holds every shard: the root is its only node, so there is nothing to exchange.
class LocalCollective final : public Collective {
 public:
  explicit LocalCollective(int shards) : root_{0, shards} {}

  std::span<const ShardNode> local_nodes() const override { return {&root_, 1}; }
  absl::Status status() const override { return absl::OkStatus(); }
  void CombineMoments(int64_t, int64_t, std::span<double>, std::span<double>) override {}
  void CombineSums(int64_t, std::span<double>, std::span<const int64_t>) override {}
  void CombineGroupSums(int64_t, int64_t, std::span<double>, std::span<const int64_t>) override {}
  void CombineGradients(int64_t, std::span<float>, std::span<const int64_t>) override {}

 private:
  ShardNode root_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_PARALLEL_COLLECTIVE_H_
