#ifndef LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_
#define LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_

#include <cstddef>
#include <cstdint>

#include "core/layers/layer.h"

namespace lockstep {

// How a weight gradient w[i, j] = sum over rows r of x[r, i] * dy[r, j] lies in memory. A sample
// has `lines` of `line_rows` rows each (1 and 1 for a dense layer; output lines and columns of a
// convolution). The rows of w fall into slices (a convolution's kernel rows): slice s reads x
// `slice_x` floats further on.
struct WeightGradientShape {
  int64_t slices = 1;
  int64_t slice_rows = 0;
  int64_t slice_x = 0;
  int64_t columns = 0;
  int64_t lines = 1;
  int64_t line_rows = 1;
  int64_t x_sample = 0;       // floats from sample to sample,
  int64_t x_line = 0;         // from line to line,
  int64_t x_row = 0;          // from row to row
  int64_t chunk_samples = 0;  // samples in a chunk of the sum (core/README.md, rule 1)
};

int64_t WeightGradientScratchBytes(const WeightGradientShape& shape, const Capacity& capacity);

// For each local node the gradient over its shards, `node_stride` floats apart. Shards are combined
// inside the kernel's tiles.
void WeightGradient(const WeightGradientShape& shape, const StepContext& step, const float* x,
                    const float* dy, std::byte* scratch, float* gradient, int64_t node_stride);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_
