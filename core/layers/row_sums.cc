#include "core/layers/row_sums.h"

#include <algorithm>

#include "core/parallel/moments.h"

namespace lockstep {
namespace {

using kernels::kBlockRows;

// Channels that one call of a combining function handles, with its stack of tree levels on the
// thread's own stack.
constexpr int64_t kChannelGroup = 32;
constexpr int kMaxDepth = 10;  // 256 shards

int64_t BlocksOf(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// Calls body(first row, rows, block number) for each block of the samples [begin, end), which
// belong to one shard and whose first block is number `block`. Returns the number after the last.
template <typename Body>
int64_t ForBlocks(int64_t begin, int64_t end, int64_t positions, int64_t block, Body body) {
  const int64_t stride = positions == 1 ? end - begin : positions;
  for (int64_t part = begin * positions; part < end * positions; part += stride) {
    for (int64_t row = part; row < part + stride; row += kBlockRows) {
      body(row, std::min(kBlockRows, part + stride - row), block++);
    }
  }
  return block;
}

// Calls body(shard, first row, rows, block) for every block of a batch of single rows, on the
// pool's threads.
template <typename Body>
void ParallelBlocks(const StepContext& step, Body body) {
  const std::vector<int64_t>& begin = step.batch->shard_begin;
  step.pool->ParallelFor(step.batch->shards(), [&](int64_t shard, int) {
    int64_t block = 0;
    for (int64_t v = 0; v < shard; ++v) block += BlocksOf(begin[v + 1] - begin[v]);
    ForBlocks(begin[shard], begin[shard + 1], 1, block,
              [&](int64_t row, int64_t rows, int64_t b) { body(shard, row, rows, b); });
  });
}

// Runs body(first channel, channels) over groups of channels.
template <typename Body>
void ParallelChannels(const StepContext& step, int64_t channels, Body body) {
  const int64_t groups = (channels + kChannelGroup - 1) / kChannelGroup;
  step.pool->ParallelFor(groups, [&](int64_t group, int) {
    const int64_t c0 = group * kChannelGroup;
    body(c0, std::min(kChannelGroup, channels - c0));
  });
}

struct MomentsLevel {
  double count;
  double mean[kChannelGroup];
  double m2[kChannelGroup];
};

struct SumsLevel {
  int64_t count;
  double sum[2][kChannelGroup];
};

void MergeSums(int quantities, int64_t channels, SumsLevel& a, const SumsLevel& b) {
  if (b.count == 0) return;
  for (int q = 0; q < quantities; ++q) {
    for (int64_t c = 0; c < channels; ++c) {
      a.sum[q][c] = a.count == 0 ? b.sum[q][c] : a.sum[q][c] + b.sum[q][c];
    }
  }
  a.count += b.count;
}

// Writes the sums of all blocks of a batch of single rows.
void GatherRows(const StepContext& step, const float* dy, const float* x, ShardMap map,
                int quantities, int64_t channels, std::byte* blocks) {
  float* partial = reinterpret_cast<float*>(blocks);
  ParallelBlocks(step, [&](int64_t shard, int64_t row, int64_t rows, int64_t block) {
    float* s1 = partial + block * 2 * channels;
    step.kernels->block_sums(dy + row * channels, quantities == 1 ? nullptr : x + row * channels,
                             map(shard), rows, channels, s1, s1 + channels);
  });
}

// For each part a row of the sums of its blocks.
void CombineBlocks(const StepContext& step, std::span<const ShardNode> parts, int quantities,
                   int64_t positions, int64_t channels, const std::byte* blocks, double* sums,
                   int64_t stride) {
  const float* partial = reinterpret_cast<const float*>(blocks);
  const Batch& batch = *step.batch;
  ParallelChannels(step, channels, [&](int64_t c0, int64_t n) {
    SumsLevel stack[kMaxDepth];
    int64_t block = 0;
    double* out = sums;
    for (const ShardNode& part : parts) {
      TreeReducer tree;
      int depth = 0;
      const auto merge = [&](int times) {
        for (; times > 0; --times, --depth) {
          MergeSums(quantities, n, stack[depth - 2], stack[depth - 1]);
        }
      };
      for (int v = part.begin; v < part.end; ++v) {
        SumsLevel& shard = stack[depth++];
        shard = {};
        block = ForBlocks(batch.shard_begin[v], batch.shard_begin[v + 1], positions, block,
                          [&](int64_t, int64_t rows, int64_t b) {
                            for (int q = 0; q < quantities; ++q) {
                              const float* s = partial + (b * 2 + q) * channels + c0;
                              for (int64_t c = 0; c < n; ++c) shard.sum[q][c] += s[c];
                            }
                            shard.count += rows;
                          });
        merge(tree.PushMerges());
      }
      merge(tree.FinalMerges());
      for (int q = 0; q < quantities; ++q) {
        std::copy_n(stack[0].sum[q], n, out + q * channels + c0);
      }
      out += stride;
    }
  });
}

}  // namespace

int64_t RowSumsBytes(const Capacity& capacity, int64_t positions, int64_t channels) {
  const int64_t blocks = positions == 1 ? BlocksOf(capacity.samples) + capacity.shards
                                        : capacity.samples * BlocksOf(positions);
  return blocks * 2 * channels * static_cast<int64_t>(sizeof(float));
}

void GatherMoments(const kernels::KernelTable& kernels, const Tile& tile, const float* x,
                   int64_t positions, int64_t channels, std::byte* blocks) {
  if (positions == 1) return;
  float* partial = reinterpret_cast<float*>(blocks);
  ForBlocks(0, tile.samples, positions, tile.begin * BlocksOf(positions),
            [&](int64_t row, int64_t rows, int64_t block) {
              float* s1 = partial + block * 2 * channels;
              kernels.block_moments(x + row * channels, rows, channels, s1, s1 + channels);
            });
}

void GatherSums(const kernels::KernelTable& kernels, const Tile& tile, const float* dy,
                const float* x, const kernels::ChannelMap& map, int64_t positions, int64_t channels,
                std::byte* blocks) {
  if (positions == 1) return;
  float* partial = reinterpret_cast<float*>(blocks);
  ForBlocks(0, tile.samples, positions, tile.begin * BlocksOf(positions),
            [&](int64_t row, int64_t rows, int64_t block) {
              float* s1 = partial + block * 2 * channels;
              kernels.block_sums(dy + row * channels, x == nullptr ? nullptr : x + row * channels,
                                 map, rows, channels, s1, s1 + channels);
            });
}

void CombinePartMoments(const StepContext& step, std::span<const ShardNode> parts, const float* x,
                        int64_t positions, int64_t channels, int64_t inner, std::byte* blocks,
                        double* moments) {
  float* partial = reinterpret_cast<float*>(blocks);  // [blocks, {s1, s2}, channels]
  if (positions == 1) {
    ParallelBlocks(step, [&](int64_t, int64_t row, int64_t rows, int64_t block) {
      float* s1 = partial + block * 2 * channels;
      step.kernels->block_moments(x + row * channels, rows, channels, s1, s1 + channels);
    });
  }
  const Batch& batch = *step.batch;
  ParallelChannels(step, channels, [&](int64_t c0, int64_t n) {
    MomentsLevel stack[kMaxDepth];
    MomentsLevel leaf;
    int64_t block = 0;
    double* out = moments;
    for (const ShardNode& part : parts) {
      TreeReducer tree;
      int depth = 0;
      const auto merge = [&](int times) {
        for (; times > 0; --times, --depth) {
          MomentsLevel& left = stack[depth - 2];
          const MomentsLevel& right = stack[depth - 1];
          MergeMoments(n, left.count, left.mean, left.m2, right.count, right.mean, right.m2);
        }
      };
      for (int v = part.begin; v < part.end; ++v) {
        MomentsLevel& shard = stack[depth++];
        shard.count = 0;
        block = ForBlocks(
            batch.shard_begin[v], batch.shard_begin[v + 1], positions, block,
            [&](int64_t row, int64_t rows, int64_t b) {
              const float* s1 = partial + b * 2 * channels + c0;
              const float* s2 = s1 + channels;
              const float* x0 = x + row / inner * inner * channels + row % inner + c0 * inner;
              leaf.count = static_cast<double>(rows);
              for (int64_t c = 0; c < n; ++c) {
                const double sum = s1[c];
                leaf.mean[c] = x0[c * inner] + sum / leaf.count;
                leaf.m2[c] = std::max(0.0, s2[c] - sum * sum / leaf.count);
              }
              MergeMoments(n, shard.count, shard.mean, shard.m2, leaf.count, leaf.mean, leaf.m2);
            });
        merge(tree.PushMerges());
      }
      merge(tree.FinalMerges());
      std::copy_n(stack[0].mean, n, out + c0);
      std::copy_n(stack[0].m2, n, out + channels + c0);
      out += 2 * channels;
    }
  });
}

void CombineNodeSums(const StepContext& step, const float* dy, const float* x, int quantities,
                     int64_t positions, int64_t channels, std::byte* blocks, double* sums,
                     int64_t node_stride) {
  if (positions == 1) {
    GatherRows(
        step, dy, x, [](int64_t) { return kernels::ChannelMap{nullptr}; }, quantities, channels,
        blocks);
  }
  CombineBlocks(step, step.batch->nodes, quantities, positions, channels, blocks, sums,
                node_stride);
}

void CombinePartSums(const StepContext& step, std::span<const ShardNode> parts, const float* dy,
                     const float* x, ShardMap map, int64_t positions, int64_t channels,
                     std::byte* blocks, double* sums) {
  if (positions == 1) GatherRows(step, dy, x, map, 2, channels, blocks);
  CombineBlocks(step, parts, 2, positions, channels, blocks, sums, 2 * channels);
}

}  // namespace lockstep
