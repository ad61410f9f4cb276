#ifndef LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_
#define LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/worker.pb.h"
#include "server/events/event_log.h"
#include "server/jobs/active_job.h"
#include "server/jobs/job_state.h"
#include "server/jobs/run_logs.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"
#include "server/telemetry/metrics.h"

namespace lockstep {

// All jobs of a server: takes them in, gives them to workers by priority, then age, takes down what
// workers report, keeps their checkpoints, publishes what succeeds.
//
// The store is the truth about a job's state and is written first; the job's event log and the
// answers follow it. Thread-safe. Everything runs under one lock that is held while the disk is
// written, so calls may wait: gRPC's reactions make them through an Executor.
class JobManager {
 public:
  struct Options {
    std::string runs_directory;        // runs/<job id>/events.log is below it
    int64_t max_job_memory_bytes = 0;  // larger jobs are refused
    // How long a running job waits for a worker that is gone and may come back.
    std::chrono::milliseconds worker_grace{10'000};
    // After a loss a job waits so long before it runs again, twice as long after each further one
    // in a row, a minute at most.
    std::chrono::milliseconds retry_delay{500};
    // Ended jobs beyond the newest so many, or that ended longer ago, are deleted; 0: kept.
    int64_t keep_jobs = 0;
    absl::Duration keep_jobs_for = absl::ZeroDuration();
    // Told of every model version before its job's end is announced; called with the manager's lock
    // held: must not block, nor call the manager. May be null.
    std::function<void(const std::string& name, int64_t version)> on_published;
    // Told of every change of a job's state, once its log has it; like on_published.
    std::function<void(const v1::Job& job)> on_changed;
    Metrics* metrics = Metrics::Unread();
    // Told of a job before something is added to its log, like on_published. May be null.
    std::function<void(const std::string& id)> on_log;
    std::function<SteadyTime()> now = &std::chrono::steady_clock::now;
  };
  // Takes up the jobs in the store: those that ran when the last server ended wait for their
  // workers, or are queued again. Store and blobs must outlive the manager.
  static absl::StatusOr<std::unique_ptr<JobManager>> Create(Options options, Store* store,
                                                            BlobStore* blobs);
  ~JobManager();
  JobManager(const JobManager&) = delete;
  JobManager& operator=(const JobManager&) = delete;

  // --- For clients; errors are those of job.proto. ---

  // What Submit would take in, and what it would be; without a worker no time is predicted.
  absl::StatusOr<v1::ValidateJobResponse> Validate(const v1::JobSpec& spec)
      ABSL_LOCKS_EXCLUDED(mu_);
  // `trace_id`: of the request, if it belongs to a trace; a job that is there keeps its own.
  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request,
                                 const std::string& trace_id = "") ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Get(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Cancel(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Pause(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> Resume(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Delete(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::Job> SetPriority(const std::string& id, int32_t priority)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The job's log, closed if the job has ended.
  absl::StatusOr<std::shared_ptr<EventLog>> Log(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);
  // A running job's worker is asked; requests that come meanwhile share its answer. Calls `done`
  // exactly once, perhaps from another thread, with the lock held: it must not block, nor call the
  // manager.
  void Weights(const std::string& id, WeightsCallback done) ABSL_LOCKS_EXCLUDED(mu_);
  v1::ListWorkersResponse Workers() ABSL_LOCKS_EXCLUDED(mu_);
  Metrics::Workers CountWorkers() ABSL_LOCKS_EXCLUDED(mu_);

  // --- For workers. ---

  // `hello` also says which attempt the worker is at, if any: one that still counts goes on.
  // `link` must stay valid until Leave() has returned. May send an assignment at once.
  WorkerId Join(const v1::WorkerMessage& hello, WorkerLink* link) ABSL_LOCKS_EXCLUDED(mu_);
  // One message at a time for a worker, in the order it sent them. What does not belong to the
  // current attempt of a job is ignored. Not OK: it could not be written down just now, and nothing
  // has happened; hand it in again, before any later one.
  absl::Status Handle(WorkerId worker, const v1::WorkerMessage& message) ABSL_LOCKS_EXCLUDED(mu_);
  // The worker is gone; its job, if any, waits for it or is queued again.
  void Leave(WorkerId worker, const std::string& reason) ABSL_LOCKS_EXCLUDED(mu_);

  // What is due: the ends of delays and graces, what could not be written before, retention. To be
  // called a few times a second.
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);

  // Gives out no more work and leaves jobs in the store as they are, to be taken up by the next
  // Create(). Those who wait for weights are told UNAVAILABLE.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  JobManager(Options options, Store* store, BlobStore* blobs);

  absl::Status Load() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status LoadJob(v1::Job job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- job_manager_schedule.cc ---

  // Gives queued jobs to idle workers until one of the two runs out.
  // For logs; empty for a job that has none or has ended.
  std::string TraceIdOfJob(const std::string& job_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A worker for the job and how many threads it has there; null: none just now.
  ConnectedWorker* FindWorker(const ActiveJob& active, WorkerId* id, int32_t* threads)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Asks the running job of the lowest priority, if that is below the given one's, to make room.
  void Preempt(const ActiveJob& by) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Assign(ActiveJob& active, WorkerId id, ConnectedWorker& worker, int32_t threads)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The attempt's worker is gone or gave up: queues the job again, or fails it when that has
  // happened too often. What cannot be written is left to Tick().
  void Lose(ActiveJob& active, const std::string& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Running jobs whose workers have not come back in time.
  void LoseAbsent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DeleteExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- job_manager_workers.cc ---

  void Rejoin(WorkerId id, ConnectedWorker& worker, const v1::WorkerMessage& message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleKind(ActiveJob& active, const v1::WorkerMessage& message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleReport(ActiveJob& active, const v1::Report& report)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleCheckpoint(ActiveJob& active, const v1::CheckpointReport& report)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HandleSnapshot(ActiveJob& active, const v1::Snapshot& snapshot)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleOutcome(ActiveJob& active, const v1::Outcome& outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status HandleSuccess(ActiveJob& active, const v1::Success& success)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Publish(ActiveJob& active, const v1::Success& success)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The worker's messages cannot be taken down, or can again.
  void Hold(ConnectedWorker& worker, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndHold(ConnectedWorker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Send(const ActiveJob& active, v1::ServerMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- job_manager_changes.cc ---

  // Changes a job's state: table, store (with the model version it publishes, if any), log, in this
  // order. On an error nothing has changed. A job that has ended is forgotten: `active` is gone.
  absl::Status Change(ActiveJob& active, JobCommand command, std::string reason,
                      v1::ModelVersion* publish = nullptr) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The job's log, opened, and made to follow the store, if need be.
  absl::StatusOr<std::shared_ptr<EventLog>> LogOf(const ActiveJob& active)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For what nobody waits for: an error is in the server's own log only.
  void LogText(const ActiveJob& active, v1::Text::Severity severity, std::string text)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(ActiveJob& active) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status DeleteEnded(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AnswerWeights(ActiveJob& active, const absl::StatusOr<v1::Weights>& weights)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Deletes a blob that nothing names any more.
  void DropBlob(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::StatusOr<v1::Job> Find(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What clients see of it.
  v1::Job Current(const ActiveJob& active) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For Cancel, Pause and Resume.
  absl::StatusOr<v1::Job> Command(const std::string& id, JobCommand command)
      ABSL_LOCKS_EXCLUDED(mu_);

  // The order in which queued jobs get workers.
  using Place = std::tuple<int32_t, int64_t, std::string>;  // -priority, age, id
  static Place PlaceOf(const ActiveJob& active) {
    return {-active.job.priority(), active.age, active.job.id()};
  }

  const Options options_;
  Store* const store_;
  BlobStore* const blobs_;

  // Taken before the locks of event logs and links, never while one of those is held.
  absl::Mutex mu_;
  RunLogs logs_ ABSL_GUARDED_BY(mu_);
  // Of jobs that have ended: opened without the lock above, because that takes time for a long log.
  absl::Mutex ended_logs_mu_ ABSL_ACQUIRED_AFTER(mu_);
  RunLogs ended_logs_ ABSL_GUARDED_BY(ended_logs_mu_);
  std::map<std::string, ActiveJob> active_ ABSL_GUARDED_BY(mu_);
  std::set<Place> queue_ ABSL_GUARDED_BY(mu_);
  int64_t next_age_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<WorkerId, ConnectedWorker> workers_ ABSL_GUARDED_BY(mu_);
  WorkerId next_worker_ ABSL_GUARDED_BY(mu_) = 1;
  int64_t next_snapshot_request_ ABSL_GUARDED_BY(mu_) = 1;
  bool expiry_due_ ABSL_GUARDED_BY(mu_) = true;  // a job has ended since the last look
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_MANAGER_H_
