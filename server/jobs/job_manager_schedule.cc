// Which job gets which worker when, and what happens to a job whose worker is gone.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_manager.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

// A job that takes its workers down must not do so for ever: losses in a row without a step
// further.
constexpr int kMaxLosses = 8;
constexpr std::chrono::milliseconds kLongestRetryDelay{60'000};

}  // namespace

void JobManager::Schedule() {
  if (stopping_) return;
  const SteadyTime now = options_.now();
  const auto idle = [](const auto& entry) { return entry.second.job_id.empty(); };
  for (auto place = queue_.begin(); place != queue_.end();) {
    ActiveJob& active = active_.at(std::get<2>(*place));
    ++place;  // before Assign takes the job out of the queue
    const bool may_preempt = active.job.spec().resources().preempt();
    if (!may_preempt && std::none_of(workers_.begin(), workers_.end(), idle)) return;
    // Its last worker is still saving what it came to, or it waits after a loss.
    if (active.worker != 0 || active.not_before > now) continue;
    WorkerId id = 0;
    int32_t threads = 0;
    ConnectedWorker* worker = FindWorker(active, &id, &threads);
    if (worker == nullptr) {
      if (may_preempt) Preempt(active);
      return;  // whoever stands behind it must not overtake it for ever
    }
    if (absl::Status status = Assign(active, id, *worker, threads); !status.ok()) {
      // The store cannot be written. The job stays where it is until the next tick.
      LogJob(LogLevel::kError, "cannot start a job", active.job, {{"status", status}});
      return;
    }
  }
}

ConnectedWorker* JobManager::FindWorker(const ActiveJob& active, WorkerId* id, int32_t* threads) {
  // Threads in use, by machine, and how many it bears: its cores, or what a worker there was told.
  std::map<std::string, int32_t> used, bears;
  for (const auto& [_, worker] : workers_) {
    const v1::Hello& hello = worker.hello;
    used[hello.host()] += worker.threads;
    bears[hello.host()] = std::max({bears[hello.host()], hello.cores(), hello.threads()});
  }
  const int32_t asked = active.job.spec().resources().threads();
  for (auto& [worker_id, worker] : workers_) {
    if (!worker.job_id.empty()) continue;
    const v1::Hello& hello = worker.hello;
    const int32_t free = bears[hello.host()] - used[hello.host()];
    // A job that leaves the number open takes what is free.
    const int32_t least = asked == 0 ? 1 : std::min(asked, hello.threads());
    if (free < least) continue;
    *id = worker_id;
    *threads = asked == 0 ? std::min(free, hello.threads()) : least;
    return &worker;
  }
  return nullptr;
}

void JobManager::Preempt(const ActiveJob& by) {
  ActiveJob* victim = nullptr;
  for (auto& [id, active] : active_) {
    if (active.worker == 0) continue;
    if (active.job.state() != v1::RUNNING) return;  // somebody is making room already
    if (active.job.priority() >= by.job.priority()) continue;
    // Of equals the younger has less to lose.
    if (victim == nullptr || PlaceOf(active) > PlaceOf(*victim)) victim = &active;
  }
  if (victim == nullptr) return;
  const absl::Status status =
      Change(*victim, JobCommand::kRequeue, absl::StrCat("preempted by job ", by.job.id()));
  if (!status.ok()) {
    LogJob(LogLevel::kError, "cannot preempt a job", victim->job, {{"status", status}});
  }
}

absl::Status JobManager::Assign(ActiveJob& active, WorkerId id, ConnectedWorker& worker,
                                int32_t threads) {
  const v1::JobSpec& spec = active.job.spec();
  v1::ServerMessage message;
  v1::Assignment& assignment = *message.mutable_assignment();
  *assignment.mutable_spec() = spec;
  assignment.set_threads(threads);
  assignment.set_trace_id(active.job.trace_id());
  absl::StatusOr<v1::Dataset> train = store_->GetDataset(spec.data().train().dataset());
  if (!train.ok()) return train.status();
  *assignment.mutable_train() = *std::move(train);
  if (spec.data().has_validation()) {
    absl::StatusOr<v1::Dataset> validation = store_->GetDataset(spec.data().validation().dataset());
    if (!validation.ok()) return validation.status();
    *assignment.mutable_validation() = *std::move(validation);
  }
  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  if (!log.ok()) return log.status();
  for (const v1::Checkpoint& checkpoint : active.checkpoints) {
    // A log that lost its end would have a gap.
    if (checkpoint.sequence() <= (*log)->last_sequence())
      *assignment.add_checkpoints() = checkpoint;
  }
  if (spec.verification().has_checkpoint()) {
    *assignment.add_checkpoints() = spec.verification().checkpoint();
  }
  if (const int64_t limit = spec.resources().max_seconds(); limit > 0) {
    constexpr double kLeast = 1e-3;  // 0 would be no limit
    assignment.set_seconds_left(
        std::max(kLeast, static_cast<double>(limit) - active.job.run_seconds()));
  }

  // The new attempt number is durable before the worker hears of it.
  v1::JobWorker& place = *active.job.mutable_worker();
  place.set_name(WorkerName(worker.hello));
  place.set_threads(threads);
  place.set_supervised(worker.hello.supervised());
  const int64_t step = assignment.checkpoints_size() > 0 ? assignment.checkpoints(0).step() : 0;
  ResetProgress(step, active.job);
  absl::Status status = Change(active, JobCommand::kAssign,
                               absl::StrCat("on ", place.name(), ", ", threads, " threads"));
  if (!status.ok()) {
    active.job.clear_worker();
    return status;
  }
  active.worker = id;
  worker.job_id = active.job.id();
  worker.attempt = active.job.attempt();
  worker.threads = threads;
  Send(active, std::move(message));
  return absl::OkStatus();
}

void JobManager::Lose(ActiveJob& active, const std::string& reason) {
  active.worker = 0;
  // Paused, or queued already: there is nothing to be lost but what was not saved.
  if (active.job.state() != v1::RUNNING) {
    active.log = nullptr;
    return;
  }
  active.lost_because = reason;
  const bool further = active.job.progress().step() > active.furthest;
  const int losses = further ? 1 : active.losses + 1;
  absl::Status status;
  if (losses >= kMaxLosses) {
    status = Change(active, JobCommand::kFail,
                    absl::StrCat("given up after ", losses, " lost workers in a row; ", reason));
    if (status.ok()) return;  // `active` is gone
  } else {
    const v1::Job before = active.job;
    status = Change(active, JobCommand::kRequeue, reason);
    if (status.ok()) {
      const int64_t from = active.checkpoints.empty() ? 0 : active.checkpoints.front().step();
      LogText(
          active, v1::Text::WARNING,
          absl::StrCat("attempt ", before.attempt(), " ended after step ", before.progress().step(),
                       ": ", reason, "; the job goes on from step ", from));
      active.losses = losses;
      active.furthest = std::max(active.furthest, before.progress().step());
      // The first loss of many is nobody's fault.
      const auto delay = std::min(options_.retry_delay * (1 << (losses - 1)), kLongestRetryDelay);
      active.not_before = losses == 1 ? options_.now() : options_.now() + delay;
      return;
    }
  }
  LogJob(LogLevel::kError, "cannot write down that a job lost its worker", active.job,
         {{"status", status}});
}

void JobManager::LoseAbsent() {
  std::vector<std::string> lost;
  for (const auto& [id, active] : active_) {
    const bool alone = active.job.state() == v1::RUNNING && active.worker == 0;
    if (alone && active.grace_end <= options_.now()) lost.push_back(id);
  }
  for (const std::string& id : lost) {
    ActiveJob& active = active_.at(id);
    Lose(active, active.lost_because);
  }
}

void JobManager::Tick() {
  absl::MutexLock lock(&mu_);
  if (stopping_) return;
  LoseAbsent();
  Schedule();
  if (std::exchange(expiry_due_, false)) DeleteExpired();
}

void JobManager::DeleteExpired() {
  if (options_.keep_jobs == 0 && options_.keep_jobs_for == absl::ZeroDuration()) return;
  const absl::Time before = options_.keep_jobs_for == absl::ZeroDuration()
                                ? absl::InfinitePast()
                                : absl::Now() - options_.keep_jobs_for;
  absl::StatusOr<std::vector<std::string>> expired =
      store_->ListExpiredJobs(before, options_.keep_jobs);
  absl::Status status = expired.status();
  for (size_t i = 0; status.ok() && i < expired->size(); ++i) {
    const absl::StatusOr<v1::Job> job = Find((*expired)[i]);
    status = job.ok() ? DeleteEnded(job->id()) : job.status();
    if (status.ok()) LogJob(LogLevel::kInfo, "job deleted", *job, {{"reason", "retention"}});
  }
  if (!status.ok()) LogLine(LogLevel::kWarning, "cannot delete old jobs", {{"status", status}});
}

}  // namespace lockstep
