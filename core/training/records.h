#ifndef LOCKSTEP_CORE_TRAINING_RECORDS_H_
#define LOCKSTEP_CORE_TRAINING_RECORDS_H_

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/training/job_plan.h"
#include "core/training/step_clock.h"
#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Makes step and epoch records out of what the steps report. All but their timing is a function of
// the job alone.
class Recorder {
 public:
  // `step_metrics` are the names of what EndStep is told. The pool must outlive it.
  Recorder(const JobPlan& plan, std::vector<std::string> step_metrics, const ThreadPool& pool);

  // Step number `step`, from 1, is the last of a step record.
  bool EndsRecord(int64_t step) const {
    return step % log_every_ == 0 || step % steps_per_epoch_ == 0 || step == total_steps_;
  }

  void BeginStep() { clock_.Begin(); }
  // Around what combines the gradients of shards.
  void BeginReduction() { clock_.BeginReduction(); }
  void EndReduction() { clock_.EndReduction(); }
  // `step` steps are done. `values` are those of the global batch; `gradient_norm` is read only
  // where EndsRecord(step).
  void EndStep(int64_t step, int64_t samples, std::span<const double> values, double learning_rate,
               double gradient_norm);
  // `validation` is empty when there is none; its names get "val_" before them here. Returns the
  // record, until the next call of anything.
  const v1::EpochRecord& EndEpoch(int64_t step, int64_t epoch, double learning_rate,
                                  std::span<const v1::Metric> training,
                                  std::span<const v1::Metric> validation, std::string state_hash);
  void AddProfile(v1::Profile profile) { *events_.emplace_back().mutable_profile() = profile; }
  void AddBatchNorm(v1::BatchNormReport report) {
    *events_.emplace_back().mutable_batch_norm() = std::move(report);
  }
  void AddWeights(v1::WeightReport report) {
    *events_.emplace_back().mutable_weights() = std::move(report);
  }
  // For people: what the run says after `step` steps.
  void AddText(int64_t step, v1::Text::Severity severity, std::string text);

  // Without the records that have not been taken.
  void Save(v1::RecorderState* state) const;
  // INVALID_ARGUMENT when it is not of so many metrics.
  absl::Status Restore(const v1::RecorderState& state);

  // The records since the last call.
  std::vector<v1::Event> Take() { return std::exchange(events_, {}); }

 private:
  // Of the steps since the last step record.
  struct Summary {
    double min = 0, sum = 0, max = 0, last = 0;
    void Add(double value, bool first);
    void Write(const std::string& name, int64_t count, v1::StepRecord* record) const;
  };

  void WriteStep(int64_t step, double learning_rate, double gradient_norm);

  const int64_t steps_per_epoch_;
  const int64_t total_steps_;
  const int64_t log_every_;
  const std::vector<std::string> step_metrics_;
  std::vector<v1::Event> events_;

  int64_t steps_ = 0;
  int64_t samples_ = 0;
  std::vector<Summary> summaries_;  // by metric
  StepTime time_;

  int64_t epoch_samples_ = 0;
  StepTime epoch_time_;
  StepClock clock_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_RECORDS_H_
