#ifndef LOCKSTEP_SERVER_JOBS_ACTIVE_JOB_H_
#define LOCKSTEP_SERVER_JOBS_ACTIVE_JOB_H_

#include <google/protobuf/timestamp.pb.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/worker.pb.h"
#include "server/events/event_log.h"

namespace lockstep {

// The manager's end of a worker's stream.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  // Called with the manager's lock held: must not block, nor call the manager.
  virtual void Send(v1::ServerMessage message) = 0;
};

using WorkerId = int64_t;
// The clock of delays and limits: it never jumps.
using SteadyTime = std::chrono::steady_clock::time_point;
using WeightsCallback = absl::AnyInvocable<void(absl::StatusOr<v1::Weights>)>;

// A job that has not ended, as the manager knows it.
struct ActiveJob {
  v1::Job job;      // as in the store, but for the newest progress
  int64_t age = 0;  // smaller is older
  // Open while it has a worker: thousands may be waiting.
  std::shared_ptr<EventLog> log;

  // The worker that has the current attempt, even while it is only saving what a paused or
  // preempted job came to. 0: none.
  WorkerId worker = 0;
  // While the job runs without a worker: until when its worker may come back, and why it is gone.
  SteadyTime grace_end{};
  std::string lost_because;

  SteadyTime run_begin{};   // of the attempt, or of the time that run_seconds does not have yet
  SteadyTime not_before{};  // a queued job waits until then, after a loss
  // Attempts lost in a row without getting further than step `furthest`.
  int losses = 0;
  int64_t furthest = 0;

  std::vector<v1::Checkpoint> checkpoints;  // that are kept, newest first

  int64_t snapshot_request = 0;                  // 0: none under way
  std::vector<WeightsCallback> weights_waiters;  // for that request
  std::string snapshot_sha256;                   // newest snapshot, to be deleted
};

// A worker that is connected.
struct ConnectedWorker {
  v1::Hello hello;
  WorkerLink* link = nullptr;
  google::protobuf::Timestamp join_time;
  // What it works on; it may still be busy with a job that has ended meanwhile. 0: idle.
  std::string job_id;
  int32_t attempt = 0;
  int32_t threads = 0;  // that it has for that
  // Since when the disk has not taken down what it says, if that is so.
  bool held = false;
  SteadyTime held_since{};
};

// "host:pid".
std::string WorkerName(const v1::Hello& hello);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_ACTIVE_JOB_H_
