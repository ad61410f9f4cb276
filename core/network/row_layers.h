#ifndef LOCKSTEP_CORE_NETWORK_ROW_LAYERS_H_
#define LOCKSTEP_CORE_NETWORK_ROW_LAYERS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/layers/layer.h"

// What stands at the edges of a network with several inputs or outputs. Batches enter and leave as
// one matrix: a sample's inputs lie one after another in its row, and so do its outputs. These
// layers copy columns of it; no spec names them and they have no weights.
namespace lockstep {

// y [N, shape] = columns [begin, begin + shape.size()) of x [N, row_size].
std::unique_ptr<const Layer> MakeRowSlice(Shape shape, int64_t begin, int64_t row_size);

// y [N, sum of sizes] = the inputs, one after another.
std::unique_ptr<const Layer> MakeRowJoin(const std::vector<Shape>& inputs);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_ROW_LAYERS_H_
