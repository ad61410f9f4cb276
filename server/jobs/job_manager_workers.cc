// What workers say, and what comes of it.

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_manager.h"
#include "server/jobs/kept_checkpoints.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

using google::protobuf::util::TimeUtil;

// How a finished epoch's hash differs from what the job is to verify; empty: it does not.
std::string Difference(const v1::Verification& wanted, const v1::EpochRecord& epoch) {
  const auto hash = std::find_if(wanted.epochs().begin(), wanted.epochs().end(),
                                 [&](const auto& h) { return h.epoch() == epoch.epoch(); });
  if (hash == wanted.epochs().end() || hash->state_hash() == epoch.state_hash()) return "";
  return absl::StrCat("the state hash after epoch ", epoch.epoch(), " (step ", epoch.step(),
                      ") is ", epoch.state_hash(), ", the receipt has ", hash->state_hash());
}

std::string Difference(const v1::Verification& wanted, const v1::Success& success) {
  if (wanted.steps() != success.steps()) {
    return absl::StrCat("training ended after step ", success.steps(),
                        ", by the receipt it ended after step ", wanted.steps());
  }
  if (wanted.state_hash() == success.state_hash()) return "";
  return absl::StrCat("the state hash at the end (step ", success.steps(), ") is ",
                      success.state_hash(), ", the receipt has ", wanted.state_hash());
}

}  // namespace

std::string WorkerName(const v1::Hello& hello) {
  return absl::StrCat(hello.host(), ":", hello.pid());
}

std::string JobManager::TraceIdOfJob(const std::string& job_id) const {
  const auto found = active_.find(job_id);
  return found == active_.end() ? "" : found->second.job.trace_id();
}

WorkerId JobManager::Join(const v1::WorkerMessage& message, WorkerLink* link) {
  absl::MutexLock lock(&mu_);
  const WorkerId id = next_worker_++;
  ConnectedWorker& worker = workers_[id];
  worker.hello = message.hello();
  worker.hello.clear_token();
  worker.link = link;
  worker.join_time = google::protobuf::util::TimeUtil::GetCurrentTime();
  LogLine(LogLevel::kInfo, "worker joined",
          {{"worker", WorkerName(worker.hello)},
           {"connection", id},
           {"threads", worker.hello.threads()},
           {"build", worker.hello.build()},
           {"job", message.job_id()},
           {"trace_id", TraceIdOfJob(message.job_id())}});
  if (!message.job_id().empty()) Rejoin(id, worker, message);
  Schedule();
  return id;
}

void JobManager::Rejoin(WorkerId id, ConnectedWorker& worker, const v1::WorkerMessage& message) {
  // Busy until it says that it has stopped, whatever it is at.
  worker.job_id = message.job_id();
  worker.attempt = message.attempt();
  worker.threads = worker.hello.threads();
  const auto found = active_.find(message.job_id());
  ActiveJob* active = found == active_.end() ? nullptr : &found->second;
  // Its stream may have ended without our having heard of it yet.
  const auto old = active == nullptr ? workers_.end() : workers_.find(active->worker);
  const bool is_its_worker =
      active != nullptr &&
      (active->worker == 0 ||
       (old != workers_.end() && WorkerName(old->second.hello) == WorkerName(worker.hello)));
  const bool counts = is_its_worker && active->job.attempt() == message.attempt() &&
                      active->job.state() != v1::QUEUED;
  if (!counts) {
    v1::ServerMessage cancel;
    cancel.set_job_id(message.job_id());
    cancel.set_attempt(message.attempt());
    cancel.mutable_cancel();
    return worker.link->Send(std::move(cancel));
  }
  if (old != workers_.end()) old->second.job_id.clear();
  active->worker = id;
  if (active->job.state() == v1::RUNNING) {
    worker.threads = active->job.worker().threads();
    LogText(*active, v1::Text::INFO,
            absl::StrCat("its worker ", WorkerName(worker.hello), " is back"));
  } else {
    v1::ServerMessage yield;
    yield.mutable_yield();
    Send(*active, std::move(yield));
  }
}

absl::Status JobManager::Handle(WorkerId id, const v1::WorkerMessage& message) {
  absl::MutexLock lock(&mu_);
  ConnectedWorker& worker = workers_.at(id);
  if (worker.job_id != message.job_id() || worker.attempt != message.attempt()) {
    return absl::OkStatus();
  }
  const auto found = active_.find(message.job_id());
  const bool counts = found != active_.end() && found->second.worker == id &&
                      found->second.job.attempt() == message.attempt();
  ActiveJob* const active = counts ? &found->second : nullptr;
  if (message.has_outcome()) worker.job_id.clear();  // nobody tells it to stop any more
  const absl::Status status = active == nullptr ? absl::OkStatus() : HandleKind(*active, message);
  if (!status.ok()) {
    worker.job_id = message.job_id();
    Hold(worker, status);
    return status;
  }
  EndHold(worker);
  if (message.number() > 0) {
    v1::ServerMessage acknowledgement;
    acknowledgement.set_job_id(message.job_id());
    acknowledgement.set_attempt(message.attempt());
    acknowledgement.mutable_acknowledgement()->set_number(message.number());
    worker.link->Send(std::move(acknowledgement));
  }
  if (message.has_outcome()) {
    worker.attempt = 0;
    worker.threads = 0;
    // Of a job that is queued or paused now the worker has saved what there was.
    if (const auto left = active_.find(message.job_id());
        left != active_.end() && left->second.worker == id) {
      left->second.worker = 0;
      left->second.log = nullptr;
    }
    Schedule();
  }
  return absl::OkStatus();
}

absl::Status JobManager::HandleKind(ActiveJob& active, const v1::WorkerMessage& message) {
  switch (message.kind_case()) {
    case v1::WorkerMessage::kReport:
      return HandleReport(active, message.report());
    case v1::WorkerMessage::kCheckpoint:
      return HandleCheckpoint(active, message.checkpoint());
    case v1::WorkerMessage::kSnapshot:
      HandleSnapshot(active, message.snapshot());
      return absl::OkStatus();
    case v1::WorkerMessage::kOutcome:
      return HandleOutcome(active, message.outcome());
    default:
      LogJob(LogLevel::kWarning, "worker sent something unexpected", active.job,
             {{"kind", static_cast<int>(message.kind_case())}});
      return absl::OkStatus();
  }
}

void JobManager::Leave(WorkerId id, const std::string& reason) {
  absl::MutexLock lock(&mu_);
  const ConnectedWorker worker = workers_.at(id);
  workers_.erase(id);
  LogLine(LogLevel::kInfo, "worker left",
          {{"worker", WorkerName(worker.hello)},
           {"connection", id},
           {"job", worker.job_id},
           {"trace_id", TraceIdOfJob(worker.job_id)},
           {"reason", reason}});
  if (stopping_) return;
  if (const auto found = active_.find(worker.job_id);
      found != active_.end() && found->second.worker == id) {
    ActiveJob& active = found->second;
    active.worker = 0;
    active.lost_because = absl::StrCat("lost worker ", WorkerName(worker.hello), ": ", reason);
    active.grace_end = options_.now();
    // One that we started has died; another may only have lost us.
    if (!worker.hello.supervised()) active.grace_end += options_.worker_grace;
    AnswerWeights(active, absl::UnavailableError("the job has just lost its worker"));
    if (active.grace_end <= options_.now()) Lose(active, active.lost_because);
  }
  Schedule();
}

void JobManager::Hold(ConnectedWorker& worker, const absl::Status& why) {
  if (worker.held) return;
  LogLine(LogLevel::kError, "cannot take down what a worker says, trying again",
          {{"worker", WorkerName(worker.hello)},
           {"job", worker.job_id},
           {"trace_id", TraceIdOfJob(worker.job_id)},
           {"status", why}});
  worker.held = true;
  worker.held_since = options_.now();
  v1::ServerMessage message;
  message.set_job_id(worker.job_id);
  message.set_attempt(worker.attempt);
  message.mutable_hold()->set_on(true);
  worker.link->Send(std::move(message));
}

void JobManager::EndHold(ConnectedWorker& worker) {
  if (!worker.held) return;
  worker.held = false;
  const double seconds = std::chrono::duration<double>(options_.now() - worker.held_since).count();
  LogLine(LogLevel::kInfo, "worker is heard again",
          {{"worker", WorkerName(worker.hello)},
           {"job", worker.job_id},
           {"trace_id", TraceIdOfJob(worker.job_id)},
           {"after_seconds", seconds}});
  if (worker.job_id.empty()) return;  // it had come to its end
  v1::ServerMessage message;
  message.set_job_id(worker.job_id);
  message.set_attempt(worker.attempt);
  message.mutable_hold()->set_on(false);
  worker.link->Send(std::move(message));
  if (const auto active = active_.find(worker.job_id); active != active_.end()) {
    LogText(active->second, v1::Text::WARNING,
            absl::StrFormat("training was held for %.1f s: the server could not write to its disk",
                            seconds));
  }
}

void JobManager::Send(const ActiveJob& active, v1::ServerMessage message) {
  message.set_job_id(active.job.id());
  message.set_attempt(active.job.attempt());
  workers_.at(active.worker).link->Send(std::move(message));
}

absl::Status JobManager::HandleReport(ActiveJob& active, const v1::Report& report) {
  std::vector<v1::Event> events;
  for (const v1::Event& event : report.events()) {
    // States and checkpoints are the server's to say.
    if (event.has_state() || event.has_checkpoint()) continue;
    events.push_back(event);
    events.back().set_attempt(active.job.attempt());
  }
  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  if (!log.ok()) return log.status();
  absl::Status status = (*log)->Append({events.data(), events.size()});
  if (absl::IsDataLoss(status) || absl::IsInvalidArgument(status)) {
    // DATA_LOSS: another run of the same job said something else. That breaks the promise this
    // system is built on, so nobody gets weights that may be wrong.
    LogJob(LogLevel::kError, "cannot log events", active.job,
           {{"attempt", active.job.attempt()}, {"status", status}});
    return Change(active, JobCommand::kFail, absl::StrCat("event log: ", status.ToString()));
  }
  if (!status.ok()) return status;
  for (const v1::Event& event : events) {
    UpdateProgress(event, active.job);
    if (!event.has_epoch() || !active.job.spec().has_verification()) continue;
    std::string difference = Difference(active.job.spec().verification(), event.epoch());
    if (!difference.empty()) return Change(active, JobCommand::kFail, std::move(difference));
  }
  return absl::OkStatus();
}

absl::Status JobManager::HandleCheckpoint(ActiveJob& active, const v1::CheckpointReport& report) {
  absl::StatusOr<v1::StatBlobResponse> blob = blobs_->Stat(report.blob());
  if (!blob.ok() || !blob->complete()) {
    LogJob(LogLevel::kError, "a checkpoint did not arrive", active.job, {{"step", report.step()}});
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  if (!log.ok()) return log.status();
  v1::Checkpoint checkpoint;
  *checkpoint.mutable_blob() = report.blob();
  checkpoint.set_step(report.step());
  checkpoint.set_state_hash(report.state_hash());
  checkpoint.set_previous_sha256(report.previous_sha256());
  checkpoint.set_sequence((*log)->last_sequence());
  *checkpoint.mutable_create_time() = TimeUtil::GetCurrentTime();
  const v1::CheckpointPolicy& policy = active.job.spec().checkpoints();
  if (!policy.keep_best().empty()) {
    absl::StatusOr<std::vector<v1::EpochRecord>> last = (*log)->Epochs(1);
    if (!last.ok()) return last.status();
    if (!last->empty() && last->front().step() == report.step()) {
      for (const v1::Metric& metric : last->front().metrics()) {
        if (metric.name() == policy.keep_best()) checkpoint.set_monitored(metric.value());
      }
    }
  }
  if (absl::Status s = store_->InsertCheckpoint(active.job.id(), checkpoint); !s.ok()) return s;
  v1::Event event;
  event.set_attempt(active.job.attempt());
  v1::CheckpointRecord& record = *event.mutable_checkpoint();
  record.set_step(report.step());
  record.set_sha256(report.blob().sha256());
  record.set_size_bytes(report.blob().size_bytes());
  record.set_stall_ms(report.stall_ms());
  record.set_save_ms(report.save_ms());
  if (absl::Status s = (*log)->Append({&event, 1}); !s.ok()) return s;

  std::vector<v1::Checkpoint>& kept = active.checkpoints;
  std::vector<v1::Checkpoint> dropped;
  const auto place = std::find_if(kept.begin(), kept.end(),
                                  [&](const auto& c) { return c.step() <= checkpoint.step(); });
  if (place != kept.end() && place->step() == checkpoint.step()) {
    if (place->blob().sha256() != checkpoint.blob().sha256()) {
      DropBlob(std::exchange(*place, checkpoint).blob().sha256());
    }
  } else {
    kept.insert(place, checkpoint);
  }
  for (const v1::Checkpoint& old : NotKept(kept, policy)) {
    if (absl::Status s = store_->DeleteCheckpoint(active.job.id(), old.step()); !s.ok()) {
      LogJob(LogLevel::kWarning, "cannot drop a checkpoint", active.job,
             {{"step", old.step()}, {"status", s}});
      continue;
    }
    std::erase_if(kept, [&](const auto& c) { return c.step() == old.step(); });
    DropBlob(old.blob().sha256());
  }
  return absl::OkStatus();
}

void JobManager::HandleSnapshot(ActiveJob& active, const v1::Snapshot& snapshot) {
  if (snapshot.request_id() != active.snapshot_request) return;
  if (!snapshot.has_weights()) {
    return AnswerWeights(active, absl::UnavailableError(absl::StrCat(
                                     "job \"", active.job.id(), "\" has not finished a step yet")));
  }
  const std::string& sha256 = snapshot.weights().sha256();
  if (sha256 != active.snapshot_sha256) {
    DropBlob(std::exchange(active.snapshot_sha256, sha256));
  }
  v1::Weights weights;
  *weights.mutable_blob() = snapshot.weights();
  weights.set_step(snapshot.step());
  AnswerWeights(active, std::move(weights));
}

absl::Status JobManager::HandleOutcome(ActiveJob& active, const v1::Outcome& outcome) {
  switch (outcome.kind_case()) {
    case v1::Outcome::kSuccess:
      return HandleSuccess(active, outcome.success());
    case v1::Outcome::kFailure:
      return Change(active, JobCommand::kFail, outcome.failure());
    default:
      // It has saved what a paused or preempted job came to; a running one it should not give up.
      if (active.job.state() == v1::RUNNING) Lose(active, "the worker gave it up");
      return absl::OkStatus();
  }
}

absl::Status JobManager::HandleSuccess(ActiveJob& active, const v1::Success& success) {
  if (active.job.spec().has_verification()) {
    std::string difference = Difference(active.job.spec().verification(), success);
    if (!difference.empty()) return Change(active, JobCommand::kFail, std::move(difference));
    active.job.set_state_hash(success.state_hash());
    return Change(active, JobCommand::kSucceed, "verified: all state hashes are the receipt's");
  }
  const absl::Status status = Publish(active, success);
  if (status.ok() || IsStorageFailure(status)) return status;
  return Change(active, JobCommand::kFail,
                absl::StrCat("cannot publish the model: ", status.ToString()));
}

absl::Status JobManager::Publish(ActiveJob& active, const v1::Success& success) {
  const v1::JobSpec& spec = active.job.spec();
  absl::StatusOr<v1::StatBlobResponse> blob = blobs_->Stat(success.weights());
  if (!blob.ok()) return blob.status();
  if (!blob->complete()) return absl::DataLossError("the weights did not arrive");
  absl::StatusOr<v1::Dataset> train = store_->GetDataset(spec.data().train().dataset());
  if (!train.ok()) return train.status();
  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  if (!log.ok()) return log.status();
  absl::StatusOr<std::vector<v1::EpochRecord>> epochs = (*log)->Epochs(0);
  if (!epochs.ok()) return epochs.status();

  v1::ModelVersion version;
  version.set_name(spec.publish_as());
  *version.mutable_spec() = spec.model();
  *version.mutable_weights() = success.weights();
  v1::Receipt& receipt = *version.mutable_receipt();
  receipt = MakeReceipt(active.job, *train, success, *epochs);
  receipt.set_build(workers_.at(active.worker).hello.build());
  if (spec.data().has_validation()) {
    absl::StatusOr<v1::Dataset> validation = store_->GetDataset(spec.data().validation().dataset());
    if (!validation.ok()) return validation.status();
    receipt.set_validation_digest(validation->digest());
  }
  if (!epochs->empty()) *version.mutable_metrics() = epochs->back().metrics();
  *version.mutable_create_time() = TimeUtil::GetCurrentTime();
  return Change(active, JobCommand::kSucceed, "", &version);
}

}  // namespace lockstep
