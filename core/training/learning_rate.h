#ifndef LOCKSTEP_CORE_TRAINING_LEARNING_RATE_H_
#define LOCKSTEP_CORE_TRAINING_LEARNING_RATE_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "core/training/monitor.h"
#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// The learning rate as the job's schedule sets it: training.proto's formulas, all in double
// (core/README.md, rule 15).
class LearningRate {
 public:
  // `spec` has been checked and its defaults filled in.
  LearningRate(const v1::TrainingSpec& spec, int64_t steps_per_epoch, int64_t total_steps);

  // Of step number `step`, from 0.
  double At(int64_t step) const;

  // What the epoch's metrics change for the epochs after it.
  void EndEpoch(const v1::EpochRecord& epoch);

  void Save(v1::LearningRateState* state) const;
  // INVALID_ARGUMENT when it is not that of such a schedule.
  absl::Status Restore(const v1::LearningRateState& state);

 private:
  double Factor(int64_t step) const;

  const v1::LearningRateSchedule schedule_;
  const int64_t steps_per_epoch_;
  const int64_t total_steps_;
  double base_;  // reduced by a plateau
  std::optional<Monitor> monitor_;
  int64_t epochs_without_ = 0;  // improvement
  int64_t cooldown_ = 0;        // epochs left
};

// The learning rate that the optimizer's spec has.
double BaseLearningRate(const v1::Optimizer& optimizer);

// The last step of a OneCycle's way up, counted from 0; not a whole number (as in PyTorch).
double OneCyclePeak(const v1::OneCycle& cycle, int64_t total_steps);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_LEARNING_RATE_H_
