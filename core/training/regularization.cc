#include "core/training/regularization.h"

#include <cmath>

namespace lockstep {

Regularization::Regularization(const Network& network)
    : network_(network),
      blocks_(CutIntoBlocks(network,
                            [](const NetworkTensor& tensor) {
                              const v1::Regularizer& r = tensor.spec.regularizer;
                              return r.l1() > 0 || r.l2() > 0;
                            })),
      penalties_(blocks_.size()) {}

double Regularization::Penalty(ThreadPool& pool, std::span<const float> parameters) {
  if (blocks_.empty()) return 0;
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t b, int) {
    const ParameterBlock& block = blocks_[b];
    const v1::Regularizer& r = regularizer(block);
    const float* w = parameters.data() + block.begin;
    const double magnitudes = SumOfBlock(w, block.size, [](double v) { return std::abs(v); });
    const double squares = SumOfBlock(w, block.size, [](double v) { return v * v; });
    penalties_[b] = double{r.l1()} * magnitudes + double{r.l2()} * squares;
  });
  double sum = 0;
  for (double penalty : penalties_) sum += penalty;
  return sum;
}

void Regularization::AddGradient(ThreadPool& pool, std::span<const float> parameters,
                                 std::span<float> gradient) const {
  if (blocks_.empty()) return;
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t b, int) {
    const ParameterBlock& block = blocks_[b];
    const float l1 = regularizer(block).l1();
    const float twice_l2 = 2.0f * regularizer(block).l2();
    for (int64_t i = block.begin; i < block.begin + block.size; ++i) {
      const float w = parameters[i];
      const float sign = w > 0 ? l1 : 0 > w ? -l1 : 0.0f;
      gradient[i] = gradient[i] + (sign + twice_l2 * w);
    }
  });
}

}  // namespace lockstep
