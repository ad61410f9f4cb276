#include "core/training/loss.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

// Keras' mean over the outputs: one ascending chain of fused multiply-adds, divided at the end.
void MeanSquaredError(int64_t rows, int64_t columns, const float* y, const float* target,
                      float scale, float* losses, float* gradient) {
  const float divisor = static_cast<float>(columns);
  const float slope = 2.0f * scale / divisor;
  for (int64_t r = 0; r < rows; ++r) {
    float sum = 0.0f;
    for (int64_t i = r * columns; i < (r + 1) * columns; ++i) {
      const float d = y[i] - target[i];
      sum = std::fma(d, d, sum);
      if (gradient != nullptr) gradient[i] = d * slope;
    }
    losses[r] = sum / divisor;
  }
}

}  // namespace

void Loss::Compute(const kernels::KernelTable& kernels, int64_t rows, int64_t columns,
                   const float* y, const Targets& targets, float scale, float* losses,
                   float* gradient) const {
  if (has_classes()) {
    kernels.cross_entropy(rows, columns, y, targets.labels, scale, losses, gradient);
  } else {
    MeanSquaredError(rows, columns, y, targets.values, scale, losses, gradient);
  }
}

void MarkCorrect(int64_t rows, int64_t columns, const float* y, const int32_t* labels,
                 float* correct) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = y + r * columns;
    correct[r] = std::max_element(row, row + columns) - row == labels[r] ? 1.0f : 0.0f;
  }
}

}  // namespace lockstep
