#ifndef LOCKSTEP_CORE_TRAINING_RECORDS_H_
#define LOCKSTEP_CORE_TRAINING_RECORDS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/training/evaluation.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// What one step adds up to, over the whole global batch.
struct BatchSums {
  int64_t samples = 0;
  double loss = 0;
  double correct = 0;
};

// Makes step and epoch records out of what the steps report. All but their timing is a function of
// the job alone.
class Recorder {
 public:
  Recorder(const JobPlan& plan, bool accuracy);

  void BeginStep();
  // `step` steps are done.
  void EndStep(int64_t step, const BatchSums& sums, double learning_rate);
  // The record, until the next call of anything.
  const v1::EpochRecord& EndEpoch(int64_t step, int64_t epoch, double learning_rate,
                                  const std::optional<Evaluation::Result>& validation,
                                  std::string state_hash);
  void AddProfile(v1::Profile profile) { *events_.emplace_back().mutable_profile() = profile; }
  void AddText(std::string text);  // for people's information

  // The records since the last call.
  std::vector<v1::Event> Take() { return std::exchange(events_, {}); }

 private:
  using Clock = std::chrono::steady_clock;
  // Of the steps since the last step record.
  struct Summary {
    double min = 0, sum = 0, max = 0, last = 0;
    void Add(double value, bool first);
    void Write(const char* name, int64_t count, v1::StepRecord* record) const;
  };

  void WriteStep(int64_t step, double learning_rate);

  const int64_t steps_per_epoch_;
  const int64_t total_steps_;
  const int64_t log_every_;
  const bool accuracy_;
  std::vector<v1::Event> events_;

  int64_t steps_ = 0;
  int64_t samples_ = 0;
  Summary loss_summary_;
  Summary accuracy_summary_;
  Clock::duration busy_{};

  BatchSums epoch_;
  Clock::duration epoch_busy_{};
  Clock::time_point step_begin_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_RECORDS_H_
