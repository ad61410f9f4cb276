#ifndef LOCKSTEP_CORE_TRAINING_RECORDS_H_
#define LOCKSTEP_CORE_TRAINING_RECORDS_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Makes step and epoch records out of what the steps report. All but their timing is a function of
// the job alone.
class Recorder {
 public:
  // `step_metrics` are the names of what EndStep is told.
  Recorder(const JobPlan& plan, std::vector<std::string> step_metrics);

  void BeginStep();
  // `step` steps are done. `values` are those of the global batch.
  void EndStep(int64_t step, int64_t samples, std::span<const double> values, double learning_rate);
  // `validation` is empty when there is none; its names get "val_" before them here. Returns the
  // record, until the next call of anything.
  const v1::EpochRecord& EndEpoch(int64_t step, int64_t epoch, double learning_rate,
                                  std::span<const v1::Metric> training,
                                  std::span<const v1::Metric> validation, std::string state_hash);
  void AddProfile(v1::Profile profile) { *events_.emplace_back().mutable_profile() = profile; }
  void AddText(std::string text);  // for people's information

  // Without the records that have not been taken.
  void Save(v1::RecorderState* state) const;
  // INVALID_ARGUMENT when it is not of so many metrics.
  absl::Status Restore(const v1::RecorderState& state);

  // The records since the last call.
  std::vector<v1::Event> Take() { return std::exchange(events_, {}); }

 private:
  using Clock = std::chrono::steady_clock;
  // Of the steps since the last step record.
  struct Summary {
    double min = 0, sum = 0, max = 0, last = 0;
    void Add(double value, bool first);
    void Write(const std::string& name, int64_t count, v1::StepRecord* record) const;
  };

  void WriteStep(int64_t step, double learning_rate);

  const int64_t steps_per_epoch_;
  const int64_t total_steps_;
  const int64_t log_every_;
  const std::vector<std::string> step_metrics_;
  std::vector<v1::Event> events_;

  int64_t steps_ = 0;
  int64_t samples_ = 0;
  std::vector<Summary> summaries_;  // by metric
  Clock::duration busy_{};

  int64_t epoch_samples_ = 0;
  Clock::duration epoch_busy_{};
  Clock::time_point step_begin_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_RECORDS_H_
