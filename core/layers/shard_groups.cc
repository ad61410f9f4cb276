#include "core/layers/shard_groups.h"

namespace lockstep {

ShardGroups::ShardGroups(const StepContext& step, int64_t group_shards)
    : step_(step), batch_(*step.batch), group_shards_(group_shards) {
  const std::span<const ShardNode> nodes = step.collective->local_nodes();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const ShardNode& local = batch_.nodes[i];
    if (group_shards == 0) {
      Add(local, 0);
      continue;
    }
    const int64_t skipped = nodes[i].begin - local.begin;  // shards of other workers before
    for (int64_t v = local.begin; v < local.end;) {
      const int64_t number = (v + skipped) / group_shards;
      const int64_t end = std::min<int64_t>(local.end, (number + 1) * group_shards - skipped);
      Add({static_cast<int>(v), static_cast<int>(end)}, number);
      v = end;
    }
  }
}

void ShardGroups::Add(const ShardNode& part, int64_t number) {
  if (number != last_number_) first_part_[groups_++] = count_;
  last_number_ = number;
  parts_[count_++] = part;
}

void ShardGroups::Sum(int64_t width, double* rows) const {
  if (group_shards_ == 0) return;
  const std::span<const ShardNode> nodes = step_.collective->local_nodes();
  std::array<int64_t, kMaxShards> counts;
  int part = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    double* first = rows + part * width;
    int64_t groups = 0;
    for (; part < count_ && parts_[part].begin < batch_.nodes[i].end; ++part) ++groups;
    // A node within a group counts if it has the group's first shard.
    counts[i] = nodes[i].begin % group_shards_ == 0 ? groups : 0;
    for (int64_t stride = 1; stride < groups; stride *= 2) {
      for (int64_t left = 0; left + stride < groups; left += 2 * stride) {
        const double* right = first + (left + stride) * width;
        for (int64_t k = 0; k < width; ++k) first[left * width + k] += right[k];
      }
    }
    double* root = rows + static_cast<int64_t>(i) * width;
    if (first != root) std::copy_n(first, width, root);
  }
  step_.collective->CombineSums(width, {rows, nodes.size() * static_cast<size_t>(width)},
                                {counts.data(), nodes.size()});
}

}  // namespace lockstep
