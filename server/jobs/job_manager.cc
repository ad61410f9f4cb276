// What clients ask of jobs. Scheduling, workers and changes of state are in the files beside this
// one.

#include "server/jobs/job_manager.h"

#include <google/protobuf/util/message_differencer.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/training/explain.h"
#include "core/training/job_plan.h"
#include "server/jobs/job_events.h"
#include "server/jobs/page_token.h"
#include "server/jobs/submission.h"
#include "server/store/files.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using google::protobuf::util::TimeUtil;

constexpr int kPageSize = 100;
constexpr int kLargestPage = 1000;
// What nothing names may be an upload whose user has yet to come.
constexpr std::chrono::hours kKeepUnnamedBlobs{24};

}  // namespace

absl::StatusOr<std::unique_ptr<JobManager>> JobManager::Create(Options options, Store* store,
                                                               BlobStore* blobs) {
  std::unique_ptr<JobManager> manager(new JobManager(std::move(options), store, blobs));
  if (absl::Status status = manager->Load(); !status.ok()) return status;
  return manager;
}

JobManager::JobManager(Options options, Store* store, BlobStore* blobs)
    : options_(std::move(options)),
      store_(store),
      blobs_(blobs),
      logs_(options_.runs_directory),
      ended_logs_(options_.runs_directory) {}

JobManager::~JobManager() = default;

absl::Status JobManager::Load() {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<std::vector<v1::Job>> jobs = store_->ListUnfinishedJobs();
  if (!jobs.ok()) return jobs.status();
  for (v1::Job& job : *jobs) {
    if (absl::Status status = LoadJob(std::move(job)); !status.ok()) return status;
  }
  LoseAbsent();  // before the first worker asks, or a younger job would overtake them
  // A crash between an upload and its record leaves blobs that nobody would ever ask for.
  for (const std::string& sha256 : blobs_->ListOlderThan(kKeepUnnamedBlobs)) DropBlob(sha256);
  LogLine(LogLevel::kInfo, "jobs loaded",
          {{"unfinished", active_.size()}, {"queued", queue_.size()}});
  return absl::OkStatus();
}

absl::Status JobManager::LoadJob(v1::Job job) {
  absl::StatusOr<std::vector<v1::Checkpoint>> checkpoints = store_->ListCheckpoints(job.id());
  if (!checkpoints.ok()) return checkpoints.status();
  ActiveJob& active = active_[job.id()];
  active.job = std::move(job);
  active.age = next_age_++;
  active.checkpoints = *std::move(checkpoints);
  if (active.job.state() == v1::QUEUED) queue_.insert(PlaceOf(active));
  if (active.job.state() != v1::RUNNING) return absl::OkStatus();

  absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active);
  if (log.ok()) {
    RestoreProgress(**log, active.job);
    active.log = *std::move(log);
  } else if (IsStorageFailure(log.status())) {
    // The job waits until its log can be opened: no worker gets it before.
    LogJob(LogLevel::kError, "cannot open the log of a running job", active.job,
           {{"status", log.status()}});
  } else {
    return Change(active, JobCommand::kFail,
                  absl::StrCat("its event log is not usable: ", log.status().ToString()));
  }
  active.run_begin = options_.now();
  // No clock of ours has seen how long the attempt ran; until its newest checkpoint it did.
  if (!active.checkpoints.empty()) {
    const auto ran = active.checkpoints.front().create_time() - active.job.start_time();
    const double seconds = static_cast<double>(TimeUtil::DurationToMilliseconds(ran)) / 1e3;
    active.job.set_run_seconds(active.job.run_seconds() + std::max(0.0, seconds));
  }
  active.lost_because = "the server was restarted";
  // The server's own workers have ended with it.
  if (!active.job.worker().supervised()) active.grace_end = options_.now() + options_.worker_grace;
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> JobManager::Find(const std::string& id) {
  const auto active = active_.find(id);
  return active == active_.end() ? store_->GetJob(id) : Current(active->second);
}

v1::Job JobManager::Current(const ActiveJob& active) {
  v1::Job job = active.job;
  const auto worker = workers_.find(active.worker);
  if (job.state() == v1::RUNNING && worker != workers_.end() && worker->second.held) {
    job.set_state_reason("held: the server cannot write to its disk; goes on when it can");
  }
  return job;
}

absl::StatusOr<v1::ValidateJobResponse> JobManager::Validate(const v1::JobSpec& spec) {
  absl::StatusOr<JobPlan> plan =
      PrepareJob(spec, "job", options_.max_job_memory_bytes, *store_, *blobs_);
  if (!plan.ok()) return plan.status();
  int threads = plan->spec.resources().threads();
  std::optional<Peaks> peaks;
  {
    absl::MutexLock lock(&mu_);
    if (!workers_.empty()) {
      const v1::Hello& hello = workers_.begin()->second.hello;
      threads = threads == 0 ? hello.threads() : std::min(threads, hello.threads());
      if (hello.core_gflops() > 0 && hello.core_gb_per_s() > 0) {
        peaks = {.flops_per_second = 1e9 * hello.core_gflops(),
                 .bytes_per_second = 1e9 * hello.core_gb_per_s()};
      }
    }
  }
  return Explain(*plan, threads, peaks);
}

absl::StatusOr<v1::Job> JobManager::Submit(const v1::SubmitJobRequest& request,
                                           const std::string& trace_id) {
  const std::string id = request.id().empty() ? ChooseJobId() : request.id();
  if (absl::Status status = CheckJobId(id); !status.ok()) return status;
  absl::StatusOr<JobPlan> plan =
      PrepareJob(request.spec(), id, options_.max_job_memory_bytes, *store_, *blobs_);
  if (!plan.ok()) return plan.status();

  absl::MutexLock lock(&mu_);
  if (request.reuse()) {
    absl::StatusOr<v1::Job> same =
        store_->FindSucceeded(plan->fingerprint, request.spec().publish_as());
    if (same.ok() || !absl::IsNotFound(same.status())) return same;
  }
  absl::StatusOr<v1::Job> known = Find(id);
  if (known.ok()) {
    if (MessageDifferencer::Equals(known->spec(), plan->spec)) return known;
    return absl::AlreadyExistsError(
        absl::StrCat("id: there is a job \"", id, "\" with another spec"));
  }
  if (!absl::IsNotFound(known.status())) return known.status();

  // A deleted job of that name may have left files behind, if a crash came between.
  if (absl::Status status = logs_.Delete(id); !status.ok()) return status;
  v1::Job job = NewJob(id, *plan);
  job.set_trace_id(trace_id);
  if (absl::Status status = store_->InsertJob(job); !status.ok()) return status;
  ActiveJob& active = active_[id];
  active.job = job;
  active.age = next_age_++;
  queue_.insert(PlaceOf(active));
  if (absl::StatusOr<std::shared_ptr<EventLog>> log = LogOf(active); !log.ok()) {
    LogJob(LogLevel::kError, "cannot write a job's log", job, {{"status", log.status()}});
  }
  LogJob(LogLevel::kInfo, "job submitted", job,
         {{"steps", plan->total_steps}, {"memory_mb", plan->memory_bytes >> 20}});
  Schedule();
  return Find(id);
}

absl::StatusOr<v1::Job> JobManager::Get(const std::string& id) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> job = Find(id);
  if (!job.ok()) return job;
  absl::StatusOr<std::vector<v1::Checkpoint>> checkpoints = store_->ListCheckpoints(id);
  if (!checkpoints.ok()) return checkpoints.status();
  job->mutable_checkpoints()->Assign(checkpoints->begin(), checkpoints->end());
  return job;
}

absl::StatusOr<v1::ListJobsResponse> JobManager::List(const v1::ListJobsRequest& request) {
  if (request.page_size() < 0 || request.page_size() > kLargestPage) {
    return absl::InvalidArgumentError(absl::StrCat("page_size: must be within [0, ", kLargestPage,
                                                   "], got ", request.page_size()));
  }
  absl::StatusOr<int64_t> below = ParsePageToken(request);
  if (!below.ok()) return below.status();
  JobFilter filter;
  for (int state : request.states()) filter.states.push_back(static_cast<v1::JobState>(state));
  filter.labels.insert(request.labels().begin(), request.labels().end());

  absl::MutexLock lock(&mu_);
  absl::StatusOr<JobPage> page =
      store_->ListJobs(filter, *below, request.page_size() == 0 ? kPageSize : request.page_size());
  if (!page.ok()) return page.status();
  v1::ListJobsResponse response;
  for (v1::Job& job : page->jobs) {
    const auto active = active_.find(job.id());
    *response.add_jobs() = active == active_.end() ? std::move(job) : Current(active->second);
  }
  response.set_next_page_token(MakePageToken(page->next, request));
  return response;
}

absl::StatusOr<v1::Job> JobManager::Command(const std::string& id, JobCommand command) {
  absl::MutexLock lock(&mu_);
  const auto active = active_.find(id);
  if (active == active_.end()) {
    absl::StatusOr<v1::Job> job = store_->GetJob(id);
    if (!job.ok()) return job.status();
    return NextState(job->state(), command).status();
  }
  if (absl::Status status = Change(active->second, command, ""); !status.ok()) return status;
  Schedule();
  return Find(id);
}

absl::StatusOr<v1::Job> JobManager::Cancel(const std::string& id) {
  return Command(id, JobCommand::kCancel);
}

absl::StatusOr<v1::Job> JobManager::Pause(const std::string& id) {
  return Command(id, JobCommand::kPause);
}

absl::StatusOr<v1::Job> JobManager::Resume(const std::string& id) {
  return Command(id, JobCommand::kResume);
}

absl::Status JobManager::Delete(const std::string& id) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> job = Find(id);
  if (!job.ok()) return job.status();
  if (!HasEnded(job->state())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot delete a job that is ", v1::JobState_Name(job->state()), "; cancel it first"));
  }
  return DeleteEnded(id);
}

absl::StatusOr<v1::Job> JobManager::SetPriority(const std::string& id, int32_t priority) {
  if (absl::Status status = CheckPriority("priority", priority); !status.ok()) return status;
  absl::MutexLock lock(&mu_);
  const auto found = active_.find(id);
  if (found == active_.end()) {
    absl::StatusOr<v1::Job> job = store_->GetJob(id);
    if (!job.ok()) return job.status();
    return absl::FailedPreconditionError(
        absl::StrCat("cannot set the priority of a job that is ", v1::JobState_Name(job->state())));
  }
  ActiveJob& active = found->second;
  v1::Job job = active.job;
  job.set_priority(priority);
  if (absl::Status status = store_->UpdateJob(job); !status.ok()) return status;
  const bool queued = queue_.erase(PlaceOf(active)) > 0;
  active.job = std::move(job);
  if (queued) queue_.insert(PlaceOf(active));
  Schedule();
  return Find(id);
}

absl::StatusOr<std::shared_ptr<EventLog>> JobManager::Log(const std::string& id) {
  {
    absl::MutexLock lock(&mu_);
    absl::StatusOr<v1::Job> job = Find(id);
    if (!job.ok()) return job.status();
    if (!HasEnded(job->state())) return logs_.Open(*job);
  }
  absl::MutexLock lock(&ended_logs_mu_);
  absl::StatusOr<v1::Job> job = store_->GetJob(id);
  if (!job.ok()) return job.status();
  if (!HasEnded(job->state())) return absl::NotFoundError("the job has just been deleted");
  return ended_logs_.Open(*job);
}

void JobManager::Weights(const std::string& id, WeightsCallback done) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> job = Find(id);
  if (!job.ok()) return done(job.status());
  switch (job->state()) {
    case v1::RUNNING:
      break;
    case v1::SUCCEEDED: {
      if (!job->has_published()) {
        return done(absl::FailedPreconditionError(
            absl::StrCat("job \"", id, "\" was a verification: it published nothing")));
      }
      absl::StatusOr<v1::ModelVersion> model =
          store_->GetModel(job->published().name(), job->published().version());
      if (!model.ok()) return done(model.status());
      v1::Weights weights;
      *weights.mutable_blob() = model->weights();
      weights.set_step(model->receipt().steps());
      return done(std::move(weights));
    }
    case v1::QUEUED:
    case v1::PAUSED:
      return done(
          absl::UnavailableError(absl::StrCat("job \"", id, "\" has no worker just now: it is ",
                                              job->state() == v1::QUEUED ? "queued" : "paused")));
    default:
      return done(absl::FailedPreconditionError(absl::StrCat(
          "job \"", id, "\" is ", v1::JobState_Name(job->state()), ": it has no weights")));
  }

  ActiveJob& active = active_.at(id);
  if (stopping_ || !workers_.contains(active.worker)) {
    return done(absl::UnavailableError(absl::StrCat("job \"", id, "\" has no worker just now")));
  }
  active.weights_waiters.push_back(std::move(done));
  if (active.snapshot_request != 0) return;
  active.snapshot_request = next_snapshot_request_++;
  v1::ServerMessage message;
  message.mutable_snapshot_request()->set_request_id(active.snapshot_request);
  Send(active, std::move(message));
}

v1::ListWorkersResponse JobManager::Workers() {
  v1::ListWorkersResponse response;
  absl::MutexLock lock(&mu_);
  response.set_queued_jobs(static_cast<int64_t>(queue_.size()));
  for (const auto& [id, worker] : workers_) {
    v1::Worker* shown = response.add_workers();
    shown->set_name(WorkerName(worker.hello));
    shown->set_threads(worker.hello.threads());
    shown->set_cores(worker.hello.cores());
    shown->set_job_id(worker.job_id);
    shown->set_attempt(worker.attempt);
    shown->set_job_threads(worker.threads);
    shown->set_held(worker.held);
    shown->set_supervised(worker.hello.supervised());
    shown->set_build(worker.hello.build());
    *shown->mutable_join_time() = worker.join_time;
  }
  std::sort(response.mutable_workers()->pointer_begin(), response.mutable_workers()->pointer_end(),
            [](const v1::Worker* a, const v1::Worker* b) { return a->name() < b->name(); });
  return response;
}

void JobManager::Stop() {
  absl::MutexLock lock(&mu_);
  stopping_ = true;
  for (auto& [id, active] : active_) {
    AnswerWeights(active, absl::UnavailableError("the server is stopping"));
    DropBlob(std::exchange(active.snapshot_sha256, ""));
  }
}

}  // namespace lockstep
