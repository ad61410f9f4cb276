// What clients ask of jobs. The workers' side is in job_manager_workers.cc.

#include "server/jobs/job_manager.h"

#include <google/protobuf/util/message_differencer.h>
#include <google/protobuf/util/time_util.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/training/explain.h"
#include "core/training/job_plan.h"
#include "server/api/names.h"
#include "server/jobs/job_events.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using google::protobuf::util::TimeUtil;

constexpr int kListPageSize = 1000;

// 64 random bits: no two jobs of a server meet.
std::string ChooseId() {
  std::random_device random;
  return absl::StrFormat("job-%08x%08x", random(), random());
}

absl::Status CheckId(const std::string& id) {
  if (absl::Status status = CheckName("id", id, 64, "._-"); !status.ok()) return status;
  // The id names the job's directory.
  if (id.front() == '.') {
    return absl::InvalidArgumentError(
        absl::StrCat("id: must not begin with a dot, got \"", id, "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Dataset> FindDataset(Store& store, const char* field,
                                        const v1::DataSource& source) {
  absl::StatusOr<v1::Dataset> dataset = store.GetDataset(source.dataset());
  if (absl::IsNotFound(dataset.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": there is no data set \"", source.dataset(), "\""));
  }
  return dataset;
}

// Makes the spec name the exact content that initial weights mean today: a stored job says for good
// what it starts from, and so does its fingerprint. A spec without a model takes that version's.
absl::Status ResolveInitialWeights(v1::JobSpec& spec, Store& store, const BlobStore& blobs) {
  if (!spec.has_initial_weights()) return absl::OkStatus();
  v1::InitialWeights& initial = *spec.mutable_initial_weights();
  switch (initial.source_case()) {
    case v1::InitialWeights::kModel: {
      absl::StatusOr<v1::ModelVersion> version =
          store.GetModel(initial.model().name(), initial.model().version());
      if (absl::IsNotFound(version.status())) {
        return absl::InvalidArgumentError(
            absl::StrCat("initial_weights.model: ", version.status().message()));
      }
      if (!version.ok()) return version.status();
      if (!initial.naming().empty() && initial.naming() != "lockstep") {
        return absl::InvalidArgumentError(absl::StrCat(
            "initial_weights.naming: the server's models have lockstep's names, got \"",
            initial.naming(), "\""));
      }
      *initial.mutable_safetensors() = version->weights();
      if (!spec.has_model() && spec.keras_model().empty()) {
        *spec.mutable_model() = version->spec();
      }
      return absl::OkStatus();
    }
    case v1::InitialWeights::kSafetensors: {
      absl::StatusOr<v1::StatBlobResponse> stat = blobs.Stat(initial.safetensors());
      if (!stat.ok()) {
        return absl::Status(stat.status().code(),
                            absl::StrCat("initial_weights.safetensors: ", stat.status().message()));
      }
      if (stat->complete()) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat(
          "initial_weights.safetensors: has not been uploaded: ", initial.safetensors().sha256()));
    }
    default:
      return absl::InvalidArgumentError(
          "initial_weights: must name a model or an uploaded safetensors file");
  }
}

absl::StatusOr<JobPlan> Plan(const v1::JobSpec& spec, int64_t max_memory_bytes, Store& store) {
  absl::StatusOr<v1::Dataset> train = FindDataset(store, "data.train.dataset", spec.data().train());
  if (!train.ok()) return train.status();
  if (!spec.data().has_validation()) return PlanJob(spec, *train, nullptr, max_memory_bytes);
  absl::StatusOr<v1::Dataset> validation =
      FindDataset(store, "data.validation.dataset", spec.data().validation());
  if (!validation.ok()) return validation.status();
  return PlanJob(spec, *train, &*validation, max_memory_bytes);
}

v1::Job NewJob(const std::string& id, const JobPlan& plan) {
  v1::Job job;
  job.set_id(id);
  *job.mutable_spec() = plan.spec;
  job.set_state(v1::QUEUED);
  job.set_fingerprint(plan.fingerprint);
  job.set_contract(kContract);
  *job.mutable_create_time() = TimeUtil::GetCurrentTime();
  v1::Progress& progress = *job.mutable_progress();
  progress.set_total_steps(plan.total_steps);
  progress.set_steps_per_epoch(plan.steps_per_epoch);
  progress.set_epochs(plan.spec.training().epochs());
  return job;
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobManager>> JobManager::Create(Options options, Store* store,
                                                               BlobStore* blobs) {
  std::unique_ptr<JobManager> manager(new JobManager(std::move(options), store, blobs));
  if (absl::Status status = manager->Load(); !status.ok()) return status;
  return manager;
}

JobManager::JobManager(Options options, Store* store, BlobStore* blobs)
    : options_(std::move(options)), store_(store), blobs_(blobs), logs_(options_.runs_directory) {}

JobManager::~JobManager() = default;

absl::Status JobManager::Load() {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<std::vector<v1::Job>> jobs = store_->ListUnfinishedJobs();
  if (!jobs.ok()) return jobs.status();
  for (v1::Job& job : *jobs) {
    ActiveJob& active = active_[job.id()];
    active.job = std::move(job);
    active.age = next_age_++;
    absl::StatusOr<std::shared_ptr<EventLog>> log = logs_.Open(active.job);
    if (!log.ok()) {
      ChangeOrLog(active, JobCommand::kFail,
                  absl::StrCat("its event log is not usable: ", log.status().ToString()));
      continue;
    }
    active.log = *std::move(log);
    if (active.job.state() == v1::RUNNING) {
      absl::Status status = Change(active, JobCommand::kRequeue, "the server was restarted");
      if (!status.ok()) return status;
    } else {
      queue_[active.age] = active.job.id();
    }
  }
  spdlog::info("jobs loaded all={} queued={}", jobs->size(), queue_.size());
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> JobManager::Find(const std::string& id) {
  if (const auto active = active_.find(id); active != active_.end()) return active->second.job;
  return store_->GetJob(id);
}

absl::StatusOr<JobPlan> JobManager::Prepare(v1::JobSpec spec, const std::string& name) const {
  if (spec.publish_as().empty()) spec.set_publish_as(name);
  if (absl::Status status = CheckName("publish_as", spec.publish_as(), 128, "._-"); !status.ok()) {
    return status;
  }
  if (absl::Status status = ResolveInitialWeights(spec, *store_, *blobs_); !status.ok()) {
    return status;
  }
  return Plan(spec, options_.max_job_memory_bytes, *store_);
}

absl::StatusOr<v1::ValidateJobResponse> JobManager::Validate(const v1::JobSpec& spec) {
  absl::StatusOr<JobPlan> plan = Prepare(spec, "job");
  if (!plan.ok()) return plan.status();
  int threads = plan->spec.resources().threads();
  std::optional<Peaks> peaks;
  {
    absl::MutexLock lock(&mu_);
    if (!workers_.empty()) {
      const v1::Hello& hello = workers_.begin()->second.hello;
      threads = threads == 0 ? hello.threads() : std::min(threads, hello.threads());
      peaks = {.flops_per_second = 1e9 * hello.core_gflops(),
               .bytes_per_second = 1e9 * hello.core_gb_per_s()};
    }
  }
  return Explain(*plan, threads, peaks);
}

absl::StatusOr<v1::Job> JobManager::Submit(const v1::SubmitJobRequest& request) {
  const std::string id = request.id().empty() ? ChooseId() : request.id();
  if (absl::Status status = CheckId(id); !status.ok()) return status;
  absl::StatusOr<JobPlan> plan = Prepare(request.spec(), id);
  if (!plan.ok()) return plan.status();

  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> known = Find(id);
  if (known.ok()) {
    if (MessageDifferencer::Equals(known->spec(), plan->spec)) return known;
    return absl::AlreadyExistsError(
        absl::StrCat("id: there is a job \"", id, "\" with another spec"));
  }
  if (!absl::IsNotFound(known.status())) return known.status();

  const v1::Job job = NewJob(id, *plan);
  if (absl::Status status = store_->InsertJob(job); !status.ok()) return status;
  ActiveJob& active = active_[id];
  active.job = job;
  active.age = next_age_++;
  absl::StatusOr<std::shared_ptr<EventLog>> log = logs_.Open(job);  // logs that it is queued
  if (!log.ok()) {
    ChangeOrLog(active, JobCommand::kFail,
                absl::StrCat("its event log is not usable: ", log.status().ToString()));
    return log.status();
  }
  active.log = *std::move(log);
  queue_[active.age] = id;
  spdlog::info("job submitted job={} steps={} memory_mb={}", id, plan->total_steps,
               plan->memory_bytes >> 20);
  Schedule();
  return Find(id);
}

absl::StatusOr<v1::Job> JobManager::Get(const std::string& id) {
  absl::MutexLock lock(&mu_);
  return Find(id);
}

absl::StatusOr<std::vector<v1::Job>> JobManager::List() {
  absl::MutexLock lock(&mu_);
  std::vector<v1::Job> jobs;
  int64_t below = 0;
  do {
    absl::StatusOr<JobPage> page = store_->ListJobs({}, below, kListPageSize);
    if (!page.ok()) return page.status();
    for (v1::Job& job : page->jobs) {
      const auto active = active_.find(job.id());
      jobs.push_back(active != active_.end() ? active->second.job : std::move(job));
    }
    below = page->next;
  } while (below != 0);
  return jobs;
}

absl::StatusOr<v1::Job> JobManager::Cancel(const std::string& id) {
  absl::MutexLock lock(&mu_);
  const auto active = active_.find(id);
  if (active == active_.end()) {
    absl::StatusOr<v1::Job> job = store_->GetJob(id);
    if (!job.ok()) return job.status();
    return NextState(job->state(), JobCommand::kCancel).status();
  }
  absl::Status status = Change(active->second, JobCommand::kCancel, "");
  if (!status.ok()) return status;
  return store_->GetJob(id);
}

absl::StatusOr<std::shared_ptr<EventLog>> JobManager::Log(const std::string& id) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> job = Find(id);
  if (!job.ok()) return job.status();
  return logs_.Open(*job);
}

void JobManager::Weights(const std::string& id, WeightsCallback done) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<v1::Job> job = Find(id);
  if (!job.ok()) return done(job.status());
  switch (job->state()) {
    case v1::RUNNING:
      break;
    case v1::SUCCEEDED: {
      absl::StatusOr<v1::ModelVersion> model =
          store_->GetModel(job->published().name(), job->published().version());
      if (!model.ok()) return done(model.status());
      v1::Weights weights;
      *weights.mutable_blob() = model->weights();
      weights.set_step(model->receipt().steps());
      return done(std::move(weights));
    }
    case v1::QUEUED:
      return done(absl::UnavailableError(
          absl::StrCat("job \"", id, "\" waits for a worker: it has no weights yet")));
    default:
      return done(absl::FailedPreconditionError(absl::StrCat(
          "job \"", id, "\" is ", v1::JobState_Name(job->state()), ": it has no weights")));
  }

  ActiveJob& active = active_.at(id);
  const auto worker = workers_.find(active.worker);
  if (stopping_ || worker == workers_.end()) {
    return done(absl::UnavailableError(absl::StrCat("job \"", id, "\" has no worker just now")));
  }
  active.weights_waiters.push_back(std::move(done));
  if (active.snapshot_request != 0) return;
  active.snapshot_request = next_snapshot_request_++;
  v1::ServerMessage message;
  message.set_job_id(id);
  message.set_attempt(active.job.attempt());
  message.mutable_snapshot_request()->set_request_id(active.snapshot_request);
  worker->second.link->Send(std::move(message));
}

void JobManager::Stop() {
  absl::MutexLock lock(&mu_);
  stopping_ = true;
  for (auto& [id, active] : active_) {
    AnswerWeights(active, absl::UnavailableError("the server is stopping"));
    DropSnapshot(std::exchange(active.snapshot_sha256, ""));
  }
}

}  // namespace lockstep
