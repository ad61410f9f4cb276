#ifndef LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_
#define LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "core/layers/layer.h"

// Sums across samples (core/README.md, rule 2): per channel, over blocks of 128 rows that restart
// at each shard, and at each sample when a sample has several positions (an image). Blocks are
// summed by the kernels in float, in parallel; what they give is combined here in double, block
// after block within a shard, shards over the tree of each local node.
//
// The blocks of images are gathered tile by tile while the tile is in the cache. Those of single
// rows span samples: gathering them does nothing, and combining reads the whole batch.
namespace lockstep {

// Bytes of the sums of all blocks: `blocks` below.
int64_t RowSumsBytes(const Capacity& capacity, int64_t positions, int64_t channels);

// x and dy are those of the tile, `map` as in KernelTable::block_sums.
void GatherMoments(const kernels::KernelTable& kernels, const Tile& tile, const float* x,
                   int64_t positions, int64_t channels, std::byte* blocks);
void GatherSums(const kernels::KernelTable& kernels, const Tile& tile, const float* dy,
                const float* x, const kernels::ChannelMap& map, int64_t positions, int64_t channels,
                std::byte* blocks);

// Statistics of x [samples, outer, channels, inner], whose rows are its (sample, outer, inner), of
// which a sample has `positions`; `inner` is 1 when the channels come last. GatherMoments was given
// the same rows with channels last. For each of `parts` (local shards, which together are all of
// them, in order) a row {mean[C], M2[C]} in `moments`, where M2 is the sum of squared distances to
// the mean; nothing where a part has no samples.
void CombinePartMoments(const StepContext& step, std::span<const ShardNode> parts, const float* x,
                        int64_t positions, int64_t channels, int64_t inner, std::byte* blocks,
                        double* moments);

// For each local node a row of sums in `sums`, `node_stride` doubles apart: the channels' sums of
// dy, and, if there are two quantities, then those of dy * x. dy and x may be null for images.
void CombineNodeSums(const StepContext& step, const float* dy, const float* x, int quantities,
                     int64_t positions, int64_t channels, std::byte* blocks, double* sums,
                     int64_t node_stride);

// Both sums for each part, the second one of dy * (x - m), where the map depends on the shard.
using ShardMap = absl::FunctionRef<kernels::ChannelMap(int64_t shard)>;
void CombinePartSums(const StepContext& step, std::span<const ShardNode> parts, const float* dy,
                     const float* x, ShardMap map, int64_t positions, int64_t channels,
                     std::byte* blocks, double* sums);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_
