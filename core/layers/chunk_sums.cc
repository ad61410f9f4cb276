#include "core/layers/chunk_sums.h"

#include <algorithm>

namespace lockstep {
namespace {

// Floats that one piece of the combination handles, with its stack of tree levels on the thread's
// own stack.
constexpr int64_t kPieceFloats = 1024;

}  // namespace

// A shard's first chunk lies at begin / chunk_samples + shard: no two chunks meet, and at most one
// place a shard stays unused.
ChunkSums::ChunkSums(const Batch& batch, int shard, int64_t chunk_samples, int64_t size,
                     std::byte* sums)
    : shard_begin_(batch.shard_begin[shard]),
      shard_end_(batch.shard_begin[shard + 1]),
      chunk_samples_(chunk_samples),
      size_(size),
      sums_(reinterpret_cast<float*>(sums) + (shard_begin_ / chunk_samples + shard) * size) {}

ChunkSums::Part ChunkSums::Find(int64_t sample) const {
  const int64_t chunk = (sample - shard_begin_) / chunk_samples_;
  const int64_t begin = shard_begin_ + chunk * chunk_samples_;
  return {begin, std::min(shard_end_, begin + chunk_samples_), sum(chunk)};
}

int64_t ChunkSums::count() const {
  return (shard_end_ - shard_begin_ + chunk_samples_ - 1) / chunk_samples_;
}

int64_t ChunkSumsBytes(const Capacity& capacity, int64_t chunk_samples, int64_t size) {
  const int64_t chunks = capacity.samples / chunk_samples + capacity.shards;
  return (chunks * size * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
}

void CombineChunkSums(const StepContext& step, int64_t chunk_samples, int64_t size, std::byte* sums,
                      float* gradient, int64_t node_stride) {
  const int64_t pieces = (size + kPieceFloats - 1) / kPieceFloats;
  step.pool->ParallelFor(pieces, [&](int64_t piece, int) {
    const int64_t begin = piece * kPieceFloats;
    const int64_t n = std::min(kPieceFloats, size - begin);
    float levels[kernels::kMaxTreeDepth][kPieceFloats];
    float* out = gradient + begin;
    for (const ShardNode& node : step.batch->nodes) {
      TreeReducer tree;
      int depth = 0;
      const auto merge = [&](int times) {
        for (; times > 0; --times, --depth) {
          step.kernels->add(n, levels[depth - 2], levels[depth - 1], /*relu=*/false,
                            levels[depth - 2]);
        }
      };
      for (int v = node.begin; v < node.end; ++v) {
        const ChunkSums chunks(*step.batch, v, chunk_samples, size, sums);
        float* shard = levels[depth++];
        // No -0 leaves a contraction, so the zeros of an empty shard pass the other side through.
        if (chunks.count() == 0) std::fill_n(shard, n, 0.0f);
        for (int64_t i = 0; i < chunks.count(); ++i) {
          const float* chunk = chunks.sum(i) + begin;
          if (i == 0) {
            std::copy_n(chunk, n, shard);
          } else {
            step.kernels->add(n, shard, chunk, /*relu=*/false, shard);
          }
        }
        merge(tree.PushMerges());
      }
      merge(tree.FinalMerges());
      std::copy_n(levels[0], n, out);
      out += node_stride;
    }
  });
}

}  // namespace lockstep
