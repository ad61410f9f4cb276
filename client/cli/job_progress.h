#ifndef LOCKSTEP_CLIENT_CLI_JOB_PROGRESS_H_
#define LOCKSTEP_CLIENT_CLI_JOB_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/progress_line.h"
#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// What a job's events say about how far it is. Times in events are the server's; `now` and
// `received` are ours and only ever compared with each other.
class JobProgress {
 public:
  // `job` as the server has it now; what it says counts when the log is read from the middle.
  explicit JobProgress(const v1::Job& job);

  void Apply(const v1::Event& event, absl::Time received);

  v1::JobState state() const { return state_; }
  bool ended() const;

  // The live line: bar and time left are the whole job's.
  ProgressLine Line(absl::Time now) const;

  // The line that stays of the epoch whose record was applied last; without the rate where it
  // would not fit into `columns`:
  //   epoch 3/5 [00:12, 1.62k samples/s]  loss 0.3121 (val 0.3310)  accuracy 0.8876 (val 0.8790)
  std::string EpochLine(const v1::EpochRecord& record, int columns) const;

  // The line that stays of the change of state that was applied last; empty for the job's end:
  //   attempt 2: goes on from step 1200 (on host:17, 8 threads)
  std::string StateLine(const v1::StateChange& change) const;

  // The line that stays of a checkpoint, unless the last such line is less than a minute of the
  // job's time old; empty then.
  std::string CheckpointLine(const v1::Event& event);

  // From the first start to the last event.
  double elapsed_s() const;
  int64_t step() const { return step_; }

 private:
  void ApplyState(const v1::Event& event);
  // "epoch  3/20": as wide for every epoch.
  std::string EpochLabel(int64_t epoch) const;

  std::string id_;
  int64_t total_steps_;  // 0: unknown
  int64_t epochs_;

  v1::JobState state_ = v1::QUEUED;
  int64_t epoch_ = 1;
  int64_t step_ = 0;
  std::optional<int64_t> checkpoint_step_;  // the newest; nothing if none is known
  bool from_the_beginning_ = false;         // the first event was the job's first
  int64_t first_step_ = 0;                  // that the job begins after
  int32_t attempt_ = 0;
  int64_t attempt_first_step_ = 0;            // steps that were done when the running attempt began
  std::optional<double> samples_per_second_;  // moving average
  std::vector<std::string> metrics_;

  absl::Time created_;
  absl::Time state_since_;
  absl::Time started_ = absl::InfiniteFuture();          // first start
  absl::Time attempt_started_ = absl::InfiniteFuture();  // start of the running attempt
  absl::Time epoch_started_ = absl::InfiniteFuture();
  std::optional<double> epoch_s_;  // the last finished epoch's, unless its start was not seen
  absl::Time last_event_;
  absl::Time last_checkpoint_line_ = absl::InfinitePast();
  absl::Time last_received_ = absl::InfiniteFuture();
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JOB_PROGRESS_H_
