#ifndef LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_
#define LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_

#include <cstddef>
#include <cstdint>

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

// x and dy are those of the tile.
void GatherMoments(const kernels::KernelTable& kernels, const Tile& tile, const float* x,
                   int64_t positions, int64_t channels, std::byte* blocks);
void GatherSums(const kernels::KernelTable& kernels, const Tile& tile, const float* dy,
                const float* x, const float* m, int64_t positions, int64_t channels,
                std::byte* blocks);

// BatchNorm statistics: for each local node a row {mean[C], M2[C]} in `moments`, where M2 is the
// sum of squared distances to the mean. x is [samples * positions, channels].
void CombineNodeMoments(const StepContext& step, const float* x, int64_t positions,
                        int64_t channels, std::byte* blocks, double* moments);

// For each local node a row of sums in `sums`, `node_stride` doubles apart: the channels' sums of
// dy, and, with x, then those of dy * (x - m), where a null m is zeros. dy and x may be null for
// images.
void CombineNodeSums(const StepContext& step, const float* dy, const float* x, const float* m,
                     int quantities, int64_t positions, int64_t channels, std::byte* blocks,
                     double* sums, int64_t node_stride);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_ROW_SUMS_H_
