#ifndef LOCKSTEP_CORE_TRAINING_TRAINING_LOSS_H_
#define LOCKSTEP_CORE_TRAINING_TRAINING_LOSS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/layers/layer.h"
#include "core/network/network.h"
#include "core/network/training_pass.h"
#include "core/tensor/aligned_buffer.h"
#include "core/training/checkpoint.h"
#include "core/training/data_feed.h"
#include "core/training/objective.h"
#include "core/training/target_feed.h"

namespace lockstep {

// The losses of training: of a batch with their gradients, over the epoch with their metrics.
// Nothing is allocated in a step. Not thread-safe; objectives and data must outlive it.
class TrainingLoss {
 public:
  // For epochs of `samples` samples of the data; `nodes`: of the shard tree, that this worker
  // holds.
  TrainingLoss(std::span<const Objective> objectives, const DataFeed& data, int64_t samples,
               const Capacity& capacity, int nodes);

  // What the constructor and EndEpoch allocate.
  static int64_t MemoryBytes(std::span<const Objective> objectives, int64_t samples,
                             const Capacity& capacity);

  // The losses of what the pass' Forward gave for these samples, of which the first is number
  // `first` of the epoch, and their gradients. Returns the loss over all outputs, the global
  // batch's mean, plus `penalty`: that of the layers' regularizers.
  double Compute(const StepContext& step, std::span<const int32_t> samples, int64_t first,
                 double penalty, TrainingPass& pass);

  // The loss alone, of a batch that is no part of an epoch. Only between EndEpoch and the next
  // Compute, whose memory it takes.
  double Probe(const StepContext& step, std::span<const int32_t> samples, double penalty,
               TrainingPass& pass);

  // Of what there is to say of each step: "loss", then those metrics that are in_steps().
  std::vector<std::string> StepNames() const;
  // The last Compute's values, by name.
  std::span<const double> StepValues() const { return step_values_; }

  // Of the epoch that ends here, as DescribeScores.
  std::vector<v1::Metric> EndEpoch();

  // What there is of the epoch under way.
  void Save(RunSnapshot* snapshot) const;
  // INVALID_ARGUMENT when it does not fit, or is not of the epoch's first `samples` samples (at
  // most those of an epoch).
  absl::Status Restore(const RunSnapshot& snapshot, int64_t samples);

 private:
  // Of output o: the sum of the samples' losses.
  double SumLosses(const StepContext& step, size_t o, std::span<const int32_t> samples,
                   int64_t first, TrainingPass& pass);
  void Measure(const kernels::KernelTable& kernels, size_t o, int64_t first, int64_t rows,
               const Targets& targets, float scale, TrainingPass& pass);
  double SumOverBatch(const StepContext& step, const float* values);

  const std::span<const Objective> objectives_;
  const DataFeed& data_;
  // By output.
  std::vector<TargetMemory> targets_;
  std::vector<Scores> scores_;
  std::vector<double> sums_;  // of the epoch's losses
  double penalties_ = 0;      // their sum over its samples

  // Of one output, where there are several: a batch's values and their gradient.
  int64_t row_size_ = 0;
  AlignedBuffer<float> output_;
  AlignedBuffer<float> gradient_;

  AlignedBuffer<std::byte> block_sums_;
  std::vector<double> node_sums_;
  std::vector<int64_t> node_counts_;
  std::vector<double> step_values_;
  int64_t samples_ = 0;  // of the epoch, until now
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_TRAINING_LOSS_H_
