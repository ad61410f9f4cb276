#ifndef LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_
#define LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/worker.pb.h"
#include "server/events/event_log.h"
#include "server/jobs/job_state.h"
#include "server/jobs/run_logs.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"

namespace lockstep {

// The manager's end of a worker's stream.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  // Called with the manager's lock held: must not block, nor call the manager.
  virtual void Send(v1::ServerMessage message) = 0;
};

// All jobs of a server: takes them in, gives the oldest waiting one to the next idle worker, takes
// down what workers report, publishes what succeeds.
//
// The store is the truth about a job's state and is written first; the job's event log and the
// answers follow it. Thread-safe. Everything runs under one lock that is held while the disk is
// written, so calls may wait: gRPC's reactions make them through an Executor.
class JobManager {
 public:
  struct Options {
    std::string runs_directory;        // runs/<job id>/events.log is below it
    int64_t max_job_memory_bytes = 0;  // larger jobs are refused
    // Told of every model version before its job's end is announced; called with the manager's lock
    // held: must not block, nor call the manager. May be null.
    std::function<void(const std::string& name, int64_t version)> on_published;
  };
  // Takes up the jobs in the store: those that ran when the last server ended are queued again.
  // Store and blobs must outlive the manager.
  static absl::StatusOr<std::unique_ptr<JobManager>> Create(Options options, Store* store,
                                                            BlobStore* blobs);
  ~JobManager();
  JobManager(const JobManager&) = delete;
  JobManager& operator=(const JobManager&) = delete;

  // --- For clients; errors are those of job.proto. ---

  // What Submit would take in, and what it would be; without a worker no time is predicted.
  absl::StatusOr<v1::ValidateJobResponse> Validate(const v1::JobSpec& spec)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Get(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<std::vector<v1::Job>> List() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Cancel(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  // The job's log, closed if the job has ended.
  absl::StatusOr<std::shared_ptr<EventLog>> Log(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  // A running job's worker is asked; requests that come meanwhile share its answer. Calls `done`
  // exactly once, perhaps from another thread, with the lock held: it must not block, nor call the
  // manager.
  using WeightsCallback = absl::AnyInvocable<void(absl::StatusOr<v1::Weights>)>;
  void Weights(const std::string& id, WeightsCallback done) ABSL_LOCKS_EXCLUDED(mu_);

  // --- For workers. ---

  using WorkerId = int64_t;
  // `link` must stay valid until Leave() has returned. May send an assignment at once.
  WorkerId Join(const v1::Hello& hello, WorkerLink* link) ABSL_LOCKS_EXCLUDED(mu_);
  // One message at a time for a worker, in the order it sent them. What does not belong to the
  // current attempt of a job is ignored.
  void Handle(WorkerId worker, v1::WorkerMessage message) ABSL_LOCKS_EXCLUDED(mu_);
  // The worker is gone; its job, if any, is queued again for another.
  void Leave(WorkerId worker, const std::string& reason) ABSL_LOCKS_EXCLUDED(mu_);

  // Gives out no more work and leaves jobs in the store as they are, to be taken up by the next
  // Create(). Those who wait for weights are told UNAVAILABLE.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A job that has not ended.
  struct ActiveJob {
    v1::Job job;      // as in the store, but for the newest progress
    int64_t age = 0;  // smaller is older; its place in queue_
    std::shared_ptr<EventLog> log;
    WorkerId worker = 0;                           // 0: none
    int losses = 0;                                // attempts whose worker vanished
    std::vector<v1::Metric> epoch_metrics;         // of the newest epoch record
    int64_t snapshot_request = 0;                  // 0: none under way
    std::vector<WeightsCallback> weights_waiters;  // for that request
    std::string snapshot_sha256;                   // newest snapshot, to be deleted
  };
  struct Worker {
    v1::Hello hello;
    WorkerLink* link = nullptr;
    // What it works on; it may still be busy with a job that has ended meanwhile. 0: idle.
    std::string job_id;
    int32_t attempt = 0;
  };

  JobManager(Options options, Store* store, BlobStore* blobs);

  absl::Status Load() ABSL_LOCKS_EXCLUDED(mu_);

  // Checks a job and fills in its defaults; `name` is what it publishes if it does not say.
  absl::StatusOr<JobPlan> Prepare(v1::JobSpec spec, const std::string& name) const;

  // Gives queued jobs to idle workers, oldest first, until one of the two runs out.
  void Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Assign(ActiveJob& active, WorkerId id, Worker& worker)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HandleReport(ActiveJob& active, v1::Report report) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HandleSnapshot(ActiveJob& active, const v1::Snapshot& snapshot)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HandleOutcome(ActiveJob& active, const v1::Outcome& outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Publish(ActiveJob& active, const v1::Success& success)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The attempt's worker is gone or gave up: queues the job again, or fails it when that has
  // happened too often.
  void Lose(ActiveJob& active, const std::string& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Changes a job's state: table, store (with the model version it publishes, if any), log, in this
  // order. On an error nothing has changed. A job that has ended is forgotten: `active` is gone.
  absl::Status Change(ActiveJob& active, JobCommand command, std::string reason,
                      v1::ModelVersion* publish = nullptr) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For changes that nobody waits for: an error (a full disk) is logged, the job stays as it is.
  void ChangeOrLog(ActiveJob& active, JobCommand command, std::string reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(ActiveJob& active) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AnswerWeights(ActiveJob& active, const absl::StatusOr<v1::Weights>& weights)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropSnapshot(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Null unless that attempt of the job is `worker`'s and runs.
  ActiveJob* Current(WorkerId worker, const v1::WorkerMessage& message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<v1::Job> Find(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  Store* const store_;
  BlobStore* const blobs_;

  // Taken before the locks of event logs and links, never while one of those is held.
  absl::Mutex mu_;
  RunLogs logs_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, ActiveJob> active_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, std::string> queue_ ABSL_GUARDED_BY(mu_);  // age -> job id
  int64_t next_age_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<WorkerId, Worker> workers_ ABSL_GUARDED_BY(mu_);
  WorkerId next_worker_ ABSL_GUARDED_BY(mu_) = 1;
  int64_t next_snapshot_request_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_
