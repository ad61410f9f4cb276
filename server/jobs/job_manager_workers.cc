// How jobs meet workers, and what comes of it. The clients' side is in job_manager.cc.

#include <google/protobuf/util/time_util.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_manager.h"

namespace lockstep {
namespace {

using google::protobuf::util::TimeUtil;

// A job that takes its workers down must not do so for ever.
constexpr int kMaxLosses = 5;

std::string Name(const v1::Hello& hello) { return absl::StrCat(hello.host(), ":", hello.pid()); }

v1::ServerMessage CancelMessage(const v1::Job& job) {
  v1::ServerMessage message;
  message.set_job_id(job.id());
  message.set_attempt(job.attempt());
  message.mutable_cancel();
  return message;
}

}  // namespace

JobManager::WorkerId JobManager::Join(const v1::Hello& hello, WorkerLink* link) {
  absl::MutexLock lock(&mu_);
  const WorkerId id = next_worker_++;
  Worker& worker = workers_[id];
  worker.hello = hello;
  worker.hello.clear_token();
  worker.link = link;
  spdlog::info("worker joined worker={} at={} threads={} build=\"{}\"", id, Name(hello),
               hello.threads(), hello.build());
  Schedule();
  return id;
}

void JobManager::Handle(WorkerId id, v1::WorkerMessage message) {
  absl::MutexLock lock(&mu_);
  Worker& worker = workers_.at(id);
  ActiveJob* active = Current(id, message);
  switch (message.kind_case()) {
    case v1::WorkerMessage::kReport:
      if (active != nullptr) HandleReport(*active, std::move(*message.mutable_report()));
      break;
    case v1::WorkerMessage::kSnapshot:
      if (active != nullptr) HandleSnapshot(*active, message.snapshot());
      break;
    case v1::WorkerMessage::kOutcome:
      if (worker.job_id != message.job_id() || worker.attempt != message.attempt()) break;
      worker.job_id.clear();
      worker.attempt = 0;
      if (active != nullptr) HandleOutcome(*active, message.outcome());
      Schedule();
      break;
    default:
      spdlog::warn("worker sent something unexpected worker={} kind={}", id,
                   static_cast<int>(message.kind_case()));
  }
}

void JobManager::Leave(WorkerId id, const std::string& reason) {
  absl::MutexLock lock(&mu_);
  const auto worker = workers_.find(id);
  const std::string job_id = worker->second.job_id;
  const std::string name = Name(worker->second.hello);
  workers_.erase(worker);
  spdlog::info("worker left worker={} at={} job={} reason=\"{}\"", id, name, job_id, reason);
  if (stopping_) return;
  const auto active = active_.find(job_id);
  if (active != active_.end() && active->second.worker == id) {
    Lose(active->second, absl::StrCat("lost worker ", name, ": ", reason));
  }
  Schedule();
}

JobManager::ActiveJob* JobManager::Current(WorkerId worker, const v1::WorkerMessage& message) {
  const auto active = active_.find(message.job_id());
  if (active == active_.end()) return nullptr;
  const bool current = active->second.job.state() == v1::RUNNING &&
                       active->second.worker == worker &&
                       active->second.job.attempt() == message.attempt();
  return current ? &active->second : nullptr;
}

void JobManager::Schedule() {
  if (stopping_) return;
  for (auto& [id, worker] : workers_) {
    if (queue_.empty()) return;
    if (!worker.job_id.empty()) continue;
    ActiveJob& active = active_.at(queue_.begin()->second);
    if (absl::Status status = Assign(active, id, worker); !status.ok()) {
      // The store cannot be written. The job stays where it is until something else happens.
      spdlog::error("cannot start job={} status=\"{}\"", active.job.id(), status.ToString());
      return;
    }
  }
}

absl::Status JobManager::Assign(ActiveJob& active, WorkerId id, Worker& worker) {
  v1::ServerMessage message;
  v1::Assignment& assignment = *message.mutable_assignment();
  const v1::DataSpec& data = active.job.spec().data();
  *assignment.mutable_spec() = active.job.spec();
  absl::StatusOr<v1::Dataset> train = store_->GetDataset(data.train().dataset());
  if (!train.ok()) return train.status();
  *assignment.mutable_train() = *std::move(train);
  if (data.has_validation()) {
    absl::StatusOr<v1::Dataset> validation = store_->GetDataset(data.validation().dataset());
    if (!validation.ok()) return validation.status();
    *assignment.mutable_validation() = *std::move(validation);
  }

  // The new attempt number is durable before the worker hears of it.
  absl::Status status =
      Change(active, JobCommand::kAssign,
             absl::StrCat("on ", Name(worker.hello), ", ", worker.hello.threads(), " threads"));
  if (!status.ok()) return status;
  active.worker = id;
  worker.job_id = active.job.id();
  worker.attempt = active.job.attempt();
  message.set_job_id(worker.job_id);
  message.set_attempt(worker.attempt);
  worker.link->Send(std::move(message));
  return absl::OkStatus();
}

void JobManager::HandleReport(ActiveJob& active, v1::Report report) {
  std::vector<v1::Event> events;
  for (v1::Event& event : *report.mutable_events()) {
    if (event.has_state()) continue;  // states are the server's to say
    event.set_attempt(active.job.attempt());
    UpdateProgress(event, active.job);
    if (event.has_epoch()) {
      active.epoch_metrics.assign(event.epoch().metrics().begin(), event.epoch().metrics().end());
    }
    events.push_back(std::move(event));
  }
  if (absl::Status status = active.log->Append({events.data(), events.size()}); !status.ok()) {
    // DATA_LOSS: another run of the same job said something else. That breaks the promise this
    // system is built on, so nobody gets weights that may be wrong.
    spdlog::error("cannot log events job={} attempt={} status=\"{}\"", active.job.id(),
                  active.job.attempt(), status.ToString());
    ChangeOrLog(active, JobCommand::kFail, absl::StrCat("event log: ", status.ToString()));
  }
}

void JobManager::HandleSnapshot(ActiveJob& active, const v1::Snapshot& snapshot) {
  if (snapshot.request_id() != active.snapshot_request) return;
  if (!snapshot.has_weights()) {
    return AnswerWeights(active, absl::UnavailableError(absl::StrCat(
                                     "job \"", active.job.id(), "\" has not finished a step yet")));
  }
  const std::string& sha256 = snapshot.weights().sha256();
  if (sha256 != active.snapshot_sha256) {
    DropSnapshot(std::exchange(active.snapshot_sha256, sha256));
  }
  v1::Weights weights;
  *weights.mutable_blob() = snapshot.weights();
  weights.set_step(snapshot.step());
  AnswerWeights(active, std::move(weights));
}

void JobManager::HandleOutcome(ActiveJob& active, const v1::Outcome& outcome) {
  switch (outcome.kind_case()) {
    case v1::Outcome::kSuccess:
      if (absl::Status status = Publish(active, outcome.success()); !status.ok()) {
        ChangeOrLog(active, JobCommand::kFail,
                    absl::StrCat("cannot publish the model: ", status.ToString()));
      }
      break;
    case v1::Outcome::kFailure:
      ChangeOrLog(active, JobCommand::kFail, outcome.failure());
      break;
    default:
      // Cancelled, though nobody asked: a cancelled job is not active any more.
      Lose(active, "the worker gave it up");
  }
}

absl::Status JobManager::Publish(ActiveJob& active, const v1::Success& success) {
  const v1::JobSpec& spec = active.job.spec();
  absl::StatusOr<v1::StatBlobResponse> blob = blobs_->Stat(success.weights());
  if (!blob.ok()) return blob.status();
  if (!blob->complete()) return absl::DataLossError("the weights did not arrive");
  absl::StatusOr<v1::Dataset> train = store_->GetDataset(spec.data().train().dataset());
  if (!train.ok()) return train.status();

  v1::ModelVersion version;
  version.set_name(spec.publish_as());
  *version.mutable_spec() = spec.model();
  *version.mutable_weights() = success.weights();
  *version.mutable_receipt() = MakeReceipt(active.job, *train, success);
  if (spec.data().has_validation()) {
    absl::StatusOr<v1::Dataset> validation = store_->GetDataset(spec.data().validation().dataset());
    if (!validation.ok()) return validation.status();
    version.mutable_receipt()->set_validation_digest(validation->digest());
  }
  version.mutable_metrics()->Assign(active.epoch_metrics.begin(), active.epoch_metrics.end());
  *version.mutable_create_time() = TimeUtil::GetCurrentTime();
  return Change(active, JobCommand::kSucceed, "", &version);
}

void JobManager::Lose(ActiveJob& active, const std::string& reason) {
  if (++active.losses >= kMaxLosses) {
    return ChangeOrLog(active, JobCommand::kFail,
                       absl::StrCat("given up after ", active.losses, " lost workers; ", reason));
  }
  v1::Event text =
      TextEvent(active.job, v1::Text::WARNING,
                absl::StrCat("attempt ", active.job.attempt(), " ended after step ",
                             active.job.progress().step(), ": ", reason, "; the job runs again"));
  ChangeOrLog(active, JobCommand::kRequeue, reason);
  if (absl::Status status = active.log->Append({&text, 1}); !status.ok()) {
    spdlog::warn("cannot log job={} status=\"{}\"", active.job.id(), status.ToString());
  }
}

absl::Status JobManager::Change(ActiveJob& active, JobCommand command, std::string reason,
                                v1::ModelVersion* publish) {
  absl::StatusOr<v1::JobState> next = NextState(active.job.state(), command);
  if (!next.ok()) return next.status();
  v1::Job job = active.job;
  job.set_state(*next);
  job.set_state_reason(std::move(reason));
  if (*next == v1::RUNNING) {
    job.set_attempt(job.attempt() + 1);
    *job.mutable_start_time() = TimeUtil::GetCurrentTime();
  }
  if (!HasEnded(*next)) ResetProgress(job);
  if (HasEnded(*next)) *job.mutable_end_time() = TimeUtil::GetCurrentTime();
  if (publish != nullptr) {
    job.set_state_hash(publish->receipt().state_hash());
    job.mutable_progress()->set_step(publish->receipt().steps());
  }
  absl::Status status =
      publish != nullptr ? store_->PublishModel(*publish, job) : store_->UpdateJob(job);
  if (!status.ok()) return status;
  active.job = std::move(job);
  if (publish != nullptr) {
    if (options_.on_published) options_.on_published(publish->name(), publish->version());
    v1::Weights weights;
    *weights.mutable_blob() = publish->weights();
    weights.set_step(publish->receipt().steps());
    AnswerWeights(active, std::move(weights));
  }
  spdlog::info("job changed job={} state={} attempt={} reason=\"{}\"", active.job.id(),
               v1::JobState_Name(*next), active.job.attempt(), active.job.state_reason());

  if (active.log != nullptr) {
    v1::Event event = StateEvent(active.job);
    absl::Status logged = active.log->Append({&event, 1});
    if (logged.ok() && HasEnded(*next)) logged = active.log->Close();
    if (!logged.ok()) {  // made up for when the log is opened next
      spdlog::error("cannot log job={} status=\"{}\"", active.job.id(), logged.ToString());
    }
  }
  if (*next == v1::QUEUED) {
    active.worker = 0;
    active.epoch_metrics.clear();
    queue_[active.age] = active.job.id();
    AnswerWeights(active, absl::UnavailableError("the job lost its worker and will run again"));
  } else {
    queue_.erase(active.age);
  }
  if (HasEnded(*next)) Forget(active);
  return absl::OkStatus();
}

void JobManager::ChangeOrLog(ActiveJob& active, JobCommand command, std::string reason) {
  const std::string id = active.job.id();
  if (absl::Status status = Change(active, command, std::move(reason)); !status.ok()) {
    spdlog::error("cannot {} job={} status=\"{}\"", JobCommandName(command), id, status.ToString());
  }
}

void JobManager::Forget(ActiveJob& active) {
  const auto worker = workers_.find(active.worker);
  if (worker != workers_.end() && worker->second.job_id == active.job.id()) {
    worker->second.link->Send(CancelMessage(active.job));  // it is still at it
  }
  AnswerWeights(active,
                absl::FailedPreconditionError(absl::StrCat(
                    "the job is ", v1::JobState_Name(active.job.state()), ": it has no weights")));
  const std::string snapshot = active.snapshot_sha256;
  active_.erase(active.job.id());
  DropSnapshot(snapshot);
}

void JobManager::AnswerWeights(ActiveJob& active, const absl::StatusOr<v1::Weights>& weights) {
  active.snapshot_request = 0;
  for (WeightsCallback& done : std::exchange(active.weights_waiters, {})) done(weights);
}

void JobManager::DropSnapshot(const std::string& sha256) {
  if (sha256.empty()) return;
  const absl::StatusOr<bool> used = store_->IsBlobUsed(sha256);  // a model may have the same bytes
  if (!used.ok() || *used) return;
  for (const auto& [id, other] : active_) {
    if (other.snapshot_sha256 == sha256) return;  // jobs with the same fingerprint share weights
  }
  if (absl::Status status = blobs_->Delete(sha256); !status.ok()) {
    spdlog::warn("cannot delete a snapshot sha256={} status=\"{}\"", sha256, status.ToString());
  }
}

}  // namespace lockstep
