#include "core/layers/weight_gradient.h"

#include <Eigen/Core>
#include <algorithm>

namespace lockstep {
namespace {

using kernels::ColumnContraction;
using kernels::RowRun;

// Floats of w that one piece of work holds, so that its partial sums stay in the L2 cache.
constexpr int64_t kPieceFloats = 32768;

int64_t Rows(const WeightGradientShape& shape) { return shape.slices * shape.slice_rows; }

int64_t RowsAPiece(const WeightGradientShape& shape, int threads) {
  const int64_t rows = Rows(shape);
  const int64_t cache = std::max<int64_t>(8, kPieceFloats / shape.columns);
  const int64_t balance = threads == 1 ? rows : std::max<int64_t>(8, rows / (3 * threads));
  return std::min({rows, cache, balance});
}

int64_t RunsAChunk(const WeightGradientShape& shape) {
  return shape.lines == 1 && shape.line_rows == 1 ? 1 : shape.chunk_samples * shape.lines;
}

int64_t ThreadScratchBytes(const WeightGradientShape& shape, int shards, int threads) {
  const int64_t runs = RunsAChunk(shape) * static_cast<int64_t>(sizeof(RowRun));
  // The lowest level of the stack is the gradient itself.
  const int64_t levels = TreeReducer::Depth(shards) - 1;
  const int64_t partial =
      levels * RowsAPiece(shape, threads) * shape.columns * static_cast<int64_t>(sizeof(float));
  return (runs + partial + 63) / 64 * 64;
}

// Adds one chunk, the samples [begin, end), to the rows [row_begin, row_end) of w.
void AddChunk(const WeightGradientShape& shape, const kernels::KernelTable& kernels, const float* x,
              const float* dy, int64_t begin, int64_t end, bool first, bool last, int64_t row_begin,
              int64_t row_end, RowRun* runs, float* w) {
  for (int64_t row = row_begin; row < row_end;) {
    const int64_t slice = row / shape.slice_rows;
    const int64_t rows = std::min(row_end, (slice + 1) * shape.slice_rows) - row;
    const float* from = x + slice * shape.slice_x + row % shape.slice_rows;
    int64_t count = 0;
    int64_t x_stride = shape.x_row;
    if (shape.lines == 1 && shape.line_rows == 1) {
      runs[count++] = {from + begin * shape.x_sample, dy + begin * shape.columns, end - begin};
      x_stride = shape.x_sample;
    } else {
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t line = 0; line < shape.lines; ++line) {
          runs[count++] = {from + n * shape.x_sample + line * shape.x_line,
                           dy + (n * shape.lines + line) * shape.line_rows * shape.columns,
                           shape.line_rows};
        }
      }
    }
    kernels.contract_columns({.runs = runs,
                              .run_count = count,
                              .x_stride = x_stride,
                              .dy_stride = shape.columns,
                              .rows = rows,
                              .columns = shape.columns,
                              .w = w + (row - row_begin) * shape.columns,
                              .first_chunk = first,
                              .last_chunk = last});
    row += rows;
  }
}

}  // namespace

int64_t WeightGradientScratchBytes(const WeightGradientShape& shape, const Capacity& capacity) {
  return capacity.threads * ThreadScratchBytes(shape, capacity.shards, capacity.threads);
}

void WeightGradient(const WeightGradientShape& shape, const StepContext& step, const float* x,
                    const float* dy, std::byte* scratch, float* gradient, int64_t node_stride) {
  const Batch& batch = *step.batch;
  const int shards = static_cast<int>(batch.shard_begin.size()) - 1;
  const int threads = step.pool->threads();
  const int64_t rows = Rows(shape);
  const int64_t piece_rows = RowsAPiece(shape, threads);
  const int64_t pieces = (rows + piece_rows - 1) / piece_rows;
  const int64_t thread_bytes = ThreadScratchBytes(shape, shards, threads);

  step.pool->ParallelFor(pieces, [&](int64_t piece, int thread) {
    const int64_t row_begin = piece * rows / pieces;
    const int64_t row_end = (piece + 1) * rows / pieces;
    const int64_t floats = (row_end - row_begin) * shape.columns;
    std::byte* mine = scratch + thread * thread_bytes;
    RowRun* runs = reinterpret_cast<RowRun*>(mine);
    float* levels = reinterpret_cast<float*>(mine + RunsAChunk(shape) * sizeof(RowRun));

    float* out = gradient + row_begin * shape.columns;
    for (const ShardNode& node : batch.nodes) {
      TreeReducer tree;
      int depth = 0;
      const auto level = [&](int i) { return i == 0 ? out : levels + (i - 1) * floats; };
      const auto merge = [&](int times) {
        for (; times > 0; --times, --depth) {
          Eigen::Map<Eigen::ArrayXf> left(level(depth - 2), floats);
          left += Eigen::Map<const Eigen::ArrayXf>(level(depth - 1), floats);
        }
      };
      for (int v = node.begin; v < node.end; ++v) {
        float* w = level(depth++);
        const int64_t begin = batch.shard_begin[v];
        const int64_t end = batch.shard_begin[v + 1];
        // No -0 leaves a contraction, so zeros pass the other operand through.
        if (begin == end) std::fill_n(w, floats, 0.0f);
        for (int64_t n = begin; n < end; n += shape.chunk_samples) {
          const int64_t chunk_end = std::min(end, n + shape.chunk_samples);
          AddChunk(shape, *step.kernels, x, dy, n, chunk_end, n == begin, chunk_end == end,
                   row_begin, row_end, runs, w);
        }
        merge(tree.PushMerges());
      }
      merge(tree.FinalMerges());
      out += node_stride;
    }
  });
}

}  // namespace lockstep
