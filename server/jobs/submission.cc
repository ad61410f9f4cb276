#include "server/jobs/submission.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/api/names.h"

namespace lockstep {
namespace {

using google::protobuf::util::TimeUtil;

constexpr int32_t kHighestPriority = 1000;
constexpr int kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 63;
constexpr size_t kMaxLabelValue = 255;
constexpr int32_t kMaxKeptCheckpoints = 100;
constexpr int32_t kDefaultKeptCheckpoints = 2;
constexpr int64_t kDefaultCheckpointSeconds = 30;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckNotNegative(const char* field, int64_t value) {
  if (value >= 0) return absl::OkStatus();
  return Invalid(field, ": must be >= 0, got ", value);
}

absl::Status CheckLabels(const v1::JobSpec& spec) {
  if (spec.labels_size() > kMaxLabels) {
    return Invalid("labels: at most ", kMaxLabels, ", got ", spec.labels_size());
  }
  for (const auto& [key, value] : spec.labels()) {
    if (auto s = CheckName("labels", key, kMaxLabelKey, "._-/"); !s.ok()) return s;
    if (value.size() > kMaxLabelValue) {
      return Invalid("labels[\"", key, "\"]: at most ", kMaxLabelValue, " bytes, got ",
                     value.size());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResources(const v1::Resources& resources) {
  absl::Status status =
      CheckNotNegative("resources.max_memory_bytes", resources.max_memory_bytes());
  status.Update(CheckNotNegative("resources.max_seconds", resources.max_seconds()));
  return status;
}

// Which metrics an epoch of the job has.
bool HasMetric(const JobPlan& plan, std::string metric) {
  if (absl::StartsWith(metric, "val_")) {
    if (plan.validation_samples == 0) return false;
    metric = metric.substr(4);
  }
  const auto& metrics = plan.spec.training().metrics();
  return metric == "loss" ||
         std::any_of(metrics.begin(), metrics.end(),
                     [&](const std::string& name) { return absl::EndsWith(metric, name); });
}

absl::Status CheckCheckpoints(JobPlan& plan) {
  v1::CheckpointPolicy& policy = *plan.spec.mutable_checkpoints();
  absl::Status status = CheckNotNegative("checkpoints.every_steps", policy.every_steps());
  status.Update(CheckNotNegative("checkpoints.every_seconds", policy.every_seconds()));
  if (!status.ok()) return status;
  if (policy.keep_last() < 0 || policy.keep_last() > kMaxKeptCheckpoints) {
    return Invalid("checkpoints.keep_last: must be within [0, ", kMaxKeptCheckpoints, "], got ",
                   policy.keep_last());
  }
  if (!policy.keep_best().empty() && !HasMetric(plan, policy.keep_best())) {
    return Invalid("checkpoints.keep_best: the job's epochs have no metric \"",
                   absl::CHexEscape(policy.keep_best()), "\"",
                   absl::StartsWith(policy.keep_best(), "val_") && plan.validation_samples == 0
                       ? ": there are no validation data"
                       : "; \"loss\" is one, and what training.metrics lists");
  }
  if (policy.every_steps() == 0 && policy.every_seconds() == 0) {
    policy.set_every_seconds(kDefaultCheckpointSeconds);
  }
  if (policy.keep_last() == 0) policy.set_keep_last(kDefaultKeptCheckpoints);
  return absl::OkStatus();
}

absl::Status CheckVerification(const v1::Verification& verification, const BlobStore& blobs) {
  if (verification.state_hash().empty() || verification.steps() <= 0) {
    return Invalid("verification: needs steps and state_hash, as a receipt has them");
  }
  int64_t epoch = 0;
  for (const v1::EpochHash& hash : verification.epochs()) {
    if (hash.epoch() <= epoch) return Invalid("verification.epochs: must ascend");
    epoch = hash.epoch();
  }
  if (!verification.has_checkpoint()) return absl::OkStatus();
  absl::StatusOr<v1::StatBlobResponse> stat = blobs.Stat(verification.checkpoint().blob());
  if (!stat.ok()) {
    return absl::Status(stat.status().code(),
                        absl::StrCat("verification.checkpoint.blob: ", stat.status().message()));
  }
  if (stat->complete()) return absl::OkStatus();
  return Invalid("verification.checkpoint.blob: this server does not have ",
                 verification.checkpoint().blob().sha256());
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

}  // namespace

std::string ChooseJobId() {
  std::random_device random;
  return absl::StrFormat("job-%08x%08x", random(), random());
}

absl::Status CheckJobId(const std::string& id) {
  if (absl::Status status = CheckName("id", id, 64, "._-"); !status.ok()) return status;
  // The id names the job's directory.
  if (id.front() == '.') return Invalid("id: must not begin with a dot, got \"", id, "\"");
  return absl::OkStatus();
}

absl::Status CheckPriority(const std::string& field, int32_t priority) {
  if (priority >= -kHighestPriority && priority <= kHighestPriority) return absl::OkStatus();
  return Invalid(field, ": must be within [-", kHighestPriority, ", ", kHighestPriority, "], got ",
                 priority);
}

absl::StatusOr<JobPlan> PrepareJob(v1::JobSpec spec, const std::string& name,
                                   int64_t max_memory_bytes, Store& store, const BlobStore& blobs) {
  if (spec.publish_as().empty()) spec.set_publish_as(name);
  absl::Status status = CheckName("publish_as", spec.publish_as(), 128, "._-");
  status.Update(CheckPriority("priority", spec.priority()));
  status.Update(CheckLabels(spec));
  status.Update(CheckResources(spec.resources()));
  if (spec.has_verification()) status.Update(CheckVerification(spec.verification(), blobs));
  status.Update(ResolveInitialWeights(spec, store, blobs));
  if (!status.ok()) return status;
  absl::StatusOr<JobPlan> plan = Plan(spec, max_memory_bytes, store);
  if (!plan.ok()) return plan;
  if (auto s = CheckCheckpoints(*plan); !s.ok()) return s;
  const int64_t allowed = plan->spec.resources().max_memory_bytes();
  if (allowed > 0 && plan->memory_bytes > allowed) {
    return absl::ResourceExhaustedError(
        absl::StrCat("resources.max_memory_bytes: the job needs about ", plan->memory_bytes >> 20,
                     " MB, its limit is ", allowed >> 20, " MB"));
  }
  return plan;
}

v1::Job NewJob(const std::string& id, const JobPlan& plan) {
  v1::Job job;
  job.set_id(id);
  *job.mutable_spec() = plan.spec;
  job.set_state(v1::QUEUED);
  job.set_fingerprint(plan.fingerprint);
  job.set_contract(kContract);
  job.set_priority(plan.spec.priority());
  // To the nanosecond: it also tells a job from a deleted one that had its id.
  *job.mutable_create_time() = TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(absl::Now()));
  v1::Progress& progress = *job.mutable_progress();
  progress.set_total_steps(plan.total_steps);
  progress.set_steps_per_epoch(plan.steps_per_epoch);
  progress.set_epochs(plan.spec.training().epochs());
  return job;
}

}  // namespace lockstep
