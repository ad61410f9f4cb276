#ifndef LOCKSTEP_CORE_TRAINING_LOSS_H_
#define LOCKSTEP_CORE_TRAINING_LOSS_H_

#include <cstdint>
#include <vector>

#include "core/kernels/kernels.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// What a batch is compared with: class numbers [n], or values [n, outputs]; the other is null.
struct Targets {
  const int32_t* labels = nullptr;
  const float* values = nullptr;
  const float* weights = nullptr;  // of the samples [n]; null: all 1

  // The class that row r means: its label; the first of its largest values; of a single one,
  // whether it is above 1/2.
  int64_t Class(int64_t r, int64_t columns) const;
};

// A loss of one output: per-sample values and their gradients. Immutable; the same for every
// thread.
class Loss {
 public:
  // `spec` has been checked and has its defaults filled in.
  explicit Loss(const v1::Loss& spec);

  // Labels rather than values.
  bool has_labels() const { return kind_ == v1::Loss::kSparseCategoricalCrossentropy; }
  // What turns y into what the loss is about: softmax or sigmoid where Compute takes logits, else
  // linear.
  kernels::Activation activation() const;
  // The network's last layer leaves that activation to the loss.
  bool takes_activation() const {
    return !from_logits_ && activation() != kernels::Activation::kLinear;
  }
  // As Keras does it in validation.
  void IgnoreClassWeights() { class_weights_.clear(); }

  // For `rows` rows of `columns` outputs (logits, unless activation() is linear): losses[r], and,
  // unless null, gradient[r, j] = scale * the derivative of losses[r] to y[r, j]; both times the
  // weights of the sample and its class.
  void Compute(const kernels::KernelTable& kernels, int64_t rows, int64_t columns, const float* y,
               const Targets& targets, float scale, float* losses, float* gradient) const;

 private:
  void ComputeUnweighted(const kernels::KernelTable& kernels, int64_t rows, int64_t columns,
                         const float* y, const Targets& targets, float scale, float* losses,
                         float* gradient) const;

  v1::Loss::KindCase kind_;
  bool from_logits_ = false;
  double label_smoothing_ = 0;
  float delta_ = 1;  // Huber's
  std::vector<float> class_weights_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_LOSS_H_
