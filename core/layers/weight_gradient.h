#ifndef LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_
#define LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_

#include <cstddef>
#include <cstdint>

#include "core/layers/layer.h"

namespace lockstep {

// The weight gradient of a dense layer, for each local node over its shards, `node_stride` floats
// apart: w[i, j] = sum over n of x[n, i] * dy[n, j], where n runs over the `positions` of each
// sample: x [samples * positions, rows], dy [samples * positions, columns]. The pool's threads
// split w; shards are combined while a tile of w is in registers.
//
// `memory` has DenseWeightGradientBytes.
int64_t DenseWeightGradientBytes(const Capacity& capacity, int64_t positions);
void DenseWeightGradient(const StepContext& step, int64_t positions, int64_t rows, const float* x,
                         int64_t columns, const float* dy, std::byte* memory, float* gradient,
                         int64_t node_stride);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_WEIGHT_GRADIENT_H_
