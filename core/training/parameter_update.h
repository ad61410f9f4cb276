#ifndef LOCKSTEP_CORE_TRAINING_PARAMETER_UPDATE_H_
#define LOCKSTEP_CORE_TRAINING_PARAMETER_UPDATE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "core/kernels/kernels.h"
#include "core/network/network.h"
#include "core/training/checkpoint.h"
#include "core/training/gradient_clipping.h"
#include "core/training/optimizer.h"
#include "core/training/parameter_blocks.h"
#include "core/training/regularization.h"

namespace lockstep {

// What a step does to the parameters once their gradient is known: the regularizers' gradient is
// added, the sum clipped, weights decay, the optimizer steps, and the average of the weights
// follows (core/README.md, rules 9 and 16). Not thread-safe; allocates nothing after the
// constructor.
class ParameterUpdate {
 public:
  // `spec` has been checked and its defaults filled in. The network must outlive it.
  ParameterUpdate(const v1::TrainingSpec& spec, const Network& network);

  // What the regularizers add to the loss.
  double Penalty(ThreadPool& pool, std::span<const float> parameters) {
    return regularization_.Penalty(pool, parameters);
  }

  // Step number `step`, from 1. Changes the gradient too. `gradient_norm`, unless null: its
  // Euclidean norm, regularizers included, before clipping.
  void Apply(const kernels::KernelTable& kernels, ThreadPool& pool, int64_t step,
             double learning_rate, std::span<float> gradient, std::span<float> parameters,
             double* gradient_norm = nullptr);

  // Flat vectors between steps, of the parameters' layout: the optimizer's and, if there is one,
  // the average of the weights, which comes last.
  static int SlotCount(const v1::TrainingSpec& spec);
  std::span<const AlignedBuffer<float>> slots() const { return optimizer_.slots(); }
  std::span<float> average() { return average_.span(); }
  std::span<const float> average() const { return average_.span(); }

  void Save(RunSnapshot* snapshot) const;
  // INVALID_ARGUMENT when it does not fit.
  absl::Status Restore(const RunSnapshot& snapshot);

 private:
  struct Decay {
    ParameterBlock block;
    double rate;
  };
  static std::vector<Decay> FindDecays(const v1::WeightDecay& spec, const Network& network);
  void DecayWeights(ThreadPool& pool, double learning_rate, std::span<float> parameters) const;
  void UpdateAverage(ThreadPool& pool, int64_t step, std::span<const float> parameters);

  Regularization regularization_;
  GradientClipping clipping_;
  std::vector<Decay> decays_;  // of the weights that do
  Optimizer optimizer_;
  const std::vector<FlatRange> trainable_;
  float average_weight_;          // of the newest weights
  AlignedBuffer<float> average_;  // empty without
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_PARAMETER_UPDATE_H_
