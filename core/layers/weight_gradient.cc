#include "core/layers/weight_gradient.h"

#include <algorithm>

namespace lockstep {
namespace {

using kernels::RowRun;

// Floats of w that one piece of work holds.
constexpr int64_t kPieceFloats = 32768;

int64_t Rows(const WeightGradientShape& shape) { return shape.slices * shape.slice_rows; }

int64_t RowsAPiece(const WeightGradientShape& shape, int threads) {
  const int64_t rows = Rows(shape);
  const int64_t cache = std::max<int64_t>(8, kPieceFloats / shape.columns);
  const int64_t balance = threads == 1 ? rows : std::max<int64_t>(8, rows / (3 * threads));
  return std::min({rows, cache, balance});
}

bool HasLines(const WeightGradientShape& shape) { return shape.lines > 1 || shape.line_rows > 1; }

int64_t MostRuns(const WeightGradientShape& shape, const Capacity& capacity) {
  const int64_t runs =
      HasLines(shape) ? capacity.samples * shape.lines : capacity.samples / shape.chunk_samples;
  return runs + capacity.shards;
}

// The runs of one node's shards, to `runs`; returns how many.
int64_t MakeRuns(const WeightGradientShape& shape, const Batch& batch, const ShardNode& node,
                 RowRun* runs) {
  TreeReducer tree;
  int64_t count = 0;
  for (int v = node.begin; v < node.end; ++v) {
    const int64_t end = batch.shard_begin[v + 1];
    for (int64_t begin = batch.shard_begin[v]; begin < end; begin += shape.chunk_samples) {
      const int64_t samples = std::min(end - begin, shape.chunk_samples);
      if (!HasLines(shape)) {
        runs[count++] = {begin * shape.x_sample, begin * shape.columns, samples, true, -1};
        continue;
      }
      for (int64_t n = begin; n < begin + samples; ++n) {
        for (int64_t line = 0; line < shape.lines; ++line) {
          runs[count++] = {n * shape.x_sample + line * shape.x_line,
                           (n * shape.lines + line) * shape.line_rows * shape.columns,
                           shape.line_rows, false, -1};
        }
      }
      runs[count - 1].ends_chunk = true;
    }
    if (batch.shard_begin[v] == end) runs[count++] = {0, 0, 0, true, -1};
    runs[count - 1].merges = tree.PushMerges() + (v + 1 == node.end ? tree.FinalMerges() : 0);
  }
  return count;
}

}  // namespace

int64_t WeightGradientScratchBytes(const WeightGradientShape& shape, const Capacity& capacity) {
  return MostRuns(shape, capacity) * static_cast<int64_t>(sizeof(RowRun));
}

void WeightGradient(const WeightGradientShape& shape, const StepContext& step, const float* x,
                    const float* dy, std::byte* scratch, float* gradient, int64_t node_stride) {
  const int64_t rows = Rows(shape);
  const int64_t piece_rows = RowsAPiece(shape, step.pool->threads());
  const int64_t pieces = (rows + piece_rows - 1) / piece_rows;
  RowRun* runs = reinterpret_cast<RowRun*>(scratch);
  for (const ShardNode& node : step.batch->nodes) {
    const int64_t count = MakeRuns(shape, *step.batch, node, runs);
    step.pool->ParallelFor(pieces, [&](int64_t piece, int) {
      const int64_t end = (piece + 1) * rows / pieces;
      for (int64_t row = piece * rows / pieces; row < end;) {
        const int64_t slice = row / shape.slice_rows;
        const int64_t in_slice = row % shape.slice_rows;
        const int64_t part = std::min(end - row, shape.slice_rows - in_slice);
        step.kernels->contract_columns({.x = x + slice * shape.slice_x + in_slice,
                                        .dy = dy,
                                        .runs = runs,
                                        .run_count = count,
                                        .x_stride = HasLines(shape) ? shape.x_row : shape.x_sample,
                                        .dy_stride = shape.columns,
                                        .rows = part,
                                        .columns = shape.columns,
                                        .w = gradient + row * shape.columns,
                                        .w_stride = shape.columns,
                                        .continues = false});
        row += part;
      }
    });
    gradient += node_stride;
  }
}

}  // namespace lockstep
