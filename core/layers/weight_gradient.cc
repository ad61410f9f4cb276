#include "core/layers/weight_gradient.h"

#include <algorithm>

#include "core/layers/rows.h"

namespace lockstep {
namespace {

using kernels::kDenseChunk;
using kernels::RowRun;

int64_t MaxRuns(const Capacity& capacity, int64_t positions) {
  return capacity.samples * positions / kDenseChunk + 2 * capacity.shards;
}

// The chunks of a node's shards. Returns their number.
int64_t MakeRuns(const Batch& batch, const ShardNode& node, int64_t positions, int64_t x_stride,
                 int64_t dy_stride, RowRun* runs) {
  int64_t count = 0;
  TreeReducer tree;
  for (int v = node.begin; v < node.end; ++v) {
    const int64_t end = batch.shard_begin[v + 1] * positions;
    int64_t n = batch.shard_begin[v] * positions;
    do {
      const int64_t length = std::min(kDenseChunk, end - n);
      runs[count++] = {n * x_stride, n * dy_stride, length, /*ends_chunk=*/true, /*merges=*/-1};
      n += length;
    } while (n < end);
    runs[count - 1].merges = tree.PushMerges() + (v + 1 == node.end ? tree.FinalMerges() : 0);
  }
  return count;
}

}  // namespace

int64_t DenseWeightGradientBytes(const Capacity& capacity, int64_t positions) {
  return (MaxRuns(capacity, positions) * static_cast<int64_t>(sizeof(RowRun)) + 63) / 64 * 64;
}

void DenseWeightGradient(const StepContext& step, int64_t positions, int64_t rows, const float* x,
                         int64_t columns, const float* dy, std::byte* memory, float* gradient,
                         int64_t node_stride) {
  RowRun* runs = reinterpret_cast<RowRun*>(memory);
  for (const ShardNode& node : step.batch->nodes) {
    const int64_t count = MakeRuns(*step.batch, node, positions, rows, columns, runs);
    ParallelRows(*step.pool, rows, 24, [&](int64_t begin, int64_t end) {
      step.kernels->contract_columns({.x = x + begin,
                                      .dy = dy,
                                      .runs = runs,
                                      .run_count = count,
                                      .x_stride = rows,
                                      .dy_stride = columns,
                                      .rows = end - begin,
                                      .columns = columns,
                                      .w = gradient + begin * columns,
                                      .w_stride = columns,
                                      .continues = false});
    });
    gradient += node_stride;
  }
}

}  // namespace lockstep
