#ifndef LOCKSTEP_CORE_LAYERS_CHUNK_SUMS_H_
#define LOCKSTEP_CORE_LAYERS_CHUNK_SUMS_H_

#include <cstddef>
#include <cstdint>

#include "core/layers/layer.h"

// The weight gradient of a convolution while it grows tile by tile: one sum of `size` floats for
// every chunk of `chunk_samples` samples of a shard (core/README.md, rule 1), combined when all are
// there.
namespace lockstep {

// Bytes of the sums of all chunks: `sums` below.
int64_t ChunkSumsBytes(const Capacity& capacity, int64_t chunk_samples, int64_t size);

// Where the chunks of one shard's samples lie.
class ChunkSums {
 public:
  ChunkSums(const Batch& batch, int shard, int64_t chunk_samples, int64_t size, std::byte* sums);

  struct Part {
    int64_t begin, end;  // samples of the batch
    float* sum;          // [size]
  };
  // The chunk of a sample of the shard.
  Part Find(int64_t sample) const;
  int64_t count() const;
  float* sum(int64_t chunk) const { return sums_ + chunk * size_; }

 private:
  const int64_t shard_begin_;
  const int64_t shard_end_;
  const int64_t chunk_samples_;
  const int64_t size_;
  float* const sums_;
};

// For each local node its gradient, `node_stride` floats apart: the sum of a shard's chunks in
// order, shards over the tree.
void CombineChunkSums(const StepContext& step, int64_t chunk_samples, int64_t size, std::byte* sums,
                      float* gradient, int64_t node_stride);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_CHUNK_SUMS_H_
