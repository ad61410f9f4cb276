#ifndef LOCKSTEP_CORE_TRAINING_LOSS_H_
#define LOCKSTEP_CORE_TRAINING_LOSS_H_

#include <cstdint>

#include "core/kernels/kernels.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// What a batch is compared with: class numbers [n], or values [n, outputs]; the other is null.
struct Targets {
  const int32_t* labels = nullptr;
  const float* values = nullptr;
};

// A loss: per-sample values and their gradients. Stateless; the same for every thread.
class Loss {
 public:
  explicit Loss(const v1::Loss& spec) : kind_(spec.kind_case()) {}

  // Labels rather than values.
  bool has_classes() const { return kind_ == v1::Loss::kSparseCategoricalCrossentropy; }

  // For `rows` rows of `columns` outputs (logits, when there are classes): losses[r], and, unless
  // null, gradient[r, j] = scale * the derivative of losses[r] to y[r, j].
  void Compute(const kernels::KernelTable& kernels, int64_t rows, int64_t columns, const float* y,
               const Targets& targets, float scale, float* losses, float* gradient) const;

 private:
  v1::Loss::KindCase kind_;
};

// correct[r] = 1 where the largest of row r's outputs (the first of equal ones) is its label's,
// else 0.
void MarkCorrect(int64_t rows, int64_t columns, const float* y, const int32_t* labels,
                 float* correct);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_LOSS_H_
