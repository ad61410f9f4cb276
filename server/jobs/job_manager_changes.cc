// How a job's state changes: store first, then log, then whoever waits.

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_manager.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

using google::protobuf::util::TimeUtil;

double SecondsSince(SteadyTime begin, SteadyTime now) {
  return std::chrono::duration<double>(now - begin).count();
}

}  // namespace

absl::Status JobManager::Change(ActiveJob& active, JobCommand command, std::string reason,
                                v1::ModelVersion* publish) {
  const v1::JobState before = active.job.state();
  absl::StatusOr<v1::JobState> next = NextState(before, command);
  if (!next.ok()) return next.status();
  v1::Job job = active.job;
  job.set_state(*next);
  job.set_state_reason(std::move(reason));
  if (*next == v1::RUNNING) {
    job.set_attempt(job.attempt() + 1);
    *job.mutable_start_time() = TimeUtil::GetCurrentTime();
  } else {
    job.clear_worker();
  }
  if (before == v1::RUNNING) {
    job.set_run_seconds(job.run_seconds() + SecondsSince(active.state_begin, options_.now()));
  }
  if (HasEnded(*next)) *job.mutable_end_time() = TimeUtil::GetCurrentTime();
  if (publish != nullptr) {
    job.set_state_hash(publish->receipt().state_hash());
    job.mutable_progress()->set_step(publish->receipt().steps());
  }
  absl::Status status =
      publish != nullptr ? store_->PublishModel(*publish, job) : store_->UpdateJob(job);
  if (!status.ok()) return status;
  queue_.erase(PlaceOf(active));
  active.job = std::move(job);
  const SteadyTime before_begin = std::exchange(active.state_begin, options_.now());
  options_.metrics->JobMoved(before, *next);
  if (*next == v1::RUNNING) {
    options_.metrics->JobStarted(absl::FromChrono(active.state_begin - before_begin));
  }
  if (*next == v1::QUEUED) queue_.insert(PlaceOf(active));
  LogJob(LogLevel::kInfo, "job changed", active.job,
         {{"state", v1::JobState_Name(*next)},
          {"attempt", active.job.attempt()},
          {"worker", active.job.worker().name()},
          {"reason", active.job.state_reason()}});
  if (publish != nullptr) {
    if (options_.on_published) options_.on_published(publish->name(), publish->version());
    v1::Weights weights;
    *weights.mutable_blob() = publish->weights();
    weights.set_step(publish->receipt().steps());
    AnswerWeights(active, std::move(weights));
  }
  // Opening a log makes it follow the store; what fails now is made up for by the next who opens
  // it.
  if (absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active); log.ok()) {
    active.log = *next == v1::RUNNING || active.worker != 0 ? *std::move(log) : nullptr;
  } else {
    LogJob(LogLevel::kError, "cannot write a job's log", active.job, {{"status", log.status()}});
  }

  if (before == v1::RUNNING && (*next == v1::PAUSED || *next == v1::QUEUED)) {
    AnswerWeights(active, absl::UnavailableError("the job has just lost its worker"));
    if (workers_.contains(active.worker)) {
      v1::ServerMessage message;
      message.mutable_yield();
      Send(active, std::move(message));
    }
  }
  if (options_.on_changed) options_.on_changed(active.job);
  if (HasEnded(*next)) Forget(active);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<EventLog>> JobManager::LogOf(const ActiveJob& active) {
  if (options_.on_log) options_.on_log(active.job.id());
  return logs_.Open(active.job);
}

void JobManager::LogText(const ActiveJob& active, v1::Text::Severity severity, std::string text) {
  v1::Event event = TextEvent(active.job, severity, std::move(text));
  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  const absl::Status status = log.ok() ? (*log)->Append({&event, 1}) : log.status();
  if (!status.ok()) {
    LogJob(LogLevel::kWarning, "cannot write a job's log", active.job,
           {{"text", event.text().text()}, {"status", status}});
  }
}

void JobManager::Forget(ActiveJob& active) {
  const auto worker = workers_.find(active.worker);
  if (worker != workers_.end() && worker->second.job_id == active.job.id()) {
    v1::ServerMessage message;  // it is still at it
    message.mutable_cancel();
    Send(active, std::move(message));
  }
  AnswerWeights(active,
                absl::FailedPreconditionError(absl::StrCat(
                    "the job is ", v1::JobState_Name(active.job.state()), ": it has no weights")));
  const std::string snapshot = active.snapshot_sha256;
  expiry_due_ = true;
  active_.erase(active.job.id());
  DropBlob(snapshot);
}

absl::Status JobManager::DeleteEnded(const std::string& id) {
  absl::MutexLock ended_logs_lock(&ended_logs_mu_);  // nobody opens it meanwhile
  absl::StatusOr<v1::Job> job = store_->GetJob(id);
  if (!job.ok()) return job.status();
  absl::StatusOr<std::vector<v1::Checkpoint>> checkpoints = store_->ListCheckpoints(id);
  if (!checkpoints.ok()) return checkpoints.status();
  // The record first: files without a record are only waste.
  if (absl::Status status = store_->DeleteJob(id); !status.ok()) return status;
  options_.metrics->JobMoved(job->state(), v1::JOB_STATE_UNSPECIFIED);
  for (const v1::Checkpoint& checkpoint : *checkpoints) DropBlob(checkpoint.blob().sha256());
  if (absl::Status status = ended_logs_.Delete(id); !status.ok()) {
    LogLine(LogLevel::kWarning, "cannot delete a run", {{"job", id}, {"status", status}});
  }
  return absl::OkStatus();
}

void JobManager::AnswerWeights(ActiveJob& active, const absl::StatusOr<v1::Weights>& weights) {
  active.snapshot_request = 0;
  for (WeightsCallback& done : std::exchange(active.weights_waiters, {})) done(weights);
}

void JobManager::DropBlob(const std::string& sha256) {
  if (sha256.empty()) return;
  for (const auto& [id, other] : active_) {
    if (other.snapshot_sha256 == sha256) return;  // jobs with the same fingerprint share weights
  }
  absl::StatusOr<bool> used = store_->IsBlobUsed(sha256);
  absl::Status status = used.status();
  if (used.ok() && *used) return;
  if (status.ok()) status = blobs_->Delete(sha256);
  if (!status.ok()) {
    LogLine(LogLevel::kWarning, "cannot delete a blob", {{"sha256", sha256}, {"status", status}});
  }
}

}  // namespace lockstep
