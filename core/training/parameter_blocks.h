#ifndef LOCKSTEP_CORE_TRAINING_PARAMETER_BLOCKS_H_
#define LOCKSTEP_CORE_TRAINING_PARAMETER_BLOCKS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/network/network.h"

namespace lockstep {

// What sums over parameters or their gradients go by (core/README.md, rule 16): each tensor is cut
// into blocks, a block's sum is made by one thread, and blocks are added in order.
struct ParameterBlock {
  static constexpr int64_t kValues = 4096;  // the most

  int tensor;     // number among the network's parameters
  int64_t begin;  // in the flat vector
  int64_t size;
};

// Of all parameters that learn and that `takes(tensor)`, in order.
template <typename Predicate>
std::vector<ParameterBlock> CutIntoBlocks(const Network& network, Predicate takes) {
  std::vector<ParameterBlock> blocks;
  for (size_t t = 0; t < network.parameters().size(); ++t) {
    const NetworkTensor& tensor = network.parameters()[t];
    if (!tensor.trainable || !takes(tensor)) continue;
    for (int64_t i = 0; i < tensor.size; i += ParameterBlock::kValues) {
      blocks.push_back({static_cast<int>(t), tensor.offset + i,
                        std::min(ParameterBlock::kValues, tensor.size - i)});
    }
  }
  return blocks;
}

// The sum of term(values[i]) in double: value i goes to accumulator i mod 4, and the sum is
// (0+1)+(2+3).
template <typename Term>
double SumOfBlock(const float* values, int64_t size, Term term) {
  double sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= size; i += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += term(double{values[i + lane]});
  }
  for (int lane = 0; i + lane < size; ++lane) sums[lane] += term(double{values[i + lane]});
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_PARAMETER_BLOCKS_H_
