#include "server/worker/assignment.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_plan.h"
#include "core/training/job_run.h"

namespace lockstep {
namespace {

// A data source of the job: the mapped files and views of them.
struct MappedData {
  std::vector<MappedFile> files;
  LabelledData views;
};

absl::StatusOr<MappedFile> MapBlob(const v1::Blob& blob, const DataCache& cache,
                                   BlobClient& blobs) {
  return cache.Get(blob, [&](const std::string& sha256, int64_t offset, DataCache::Sink sink) {
    return blobs.Fetch(sha256, offset, sink);
  });
}

absl::StatusOr<MappedFile> MapTensor(const v1::Dataset& dataset, const std::string& name,
                                     const DataCache& cache, BlobClient& blobs, TensorView& view) {
  const auto tensor = std::find_if(dataset.tensors().begin(), dataset.tensors().end(),
                                   [&](const v1::Tensor& tensor) { return tensor.name() == name; });
  const std::optional<DType> dtype =
      tensor == dataset.tensors().end() ? std::nullopt : ParseDType(tensor->dtype());
  if (!dtype.has_value()) {
    return absl::InternalError(absl::StrCat("data set ", dataset.name(), " has no usable ", name));
  }
  absl::StatusOr<MappedFile> file = MapBlob(tensor->blob(), cache, blobs);
  if (file.ok()) {
    view = TensorView(*dtype, {tensor->shape().begin(), tensor->shape().end()}, file->bytes());
  }
  return file;
}

absl::StatusOr<MappedData> MapData(const v1::Dataset& dataset, const v1::DataSource& source,
                                   const DataCache& cache, BlobClient& blobs) {
  MappedData data;
  const auto map = [&](const std::string& name, TensorView& view) -> absl::Status {
    absl::StatusOr<MappedFile> file = MapTensor(dataset, name, cache, blobs, view);
    if (!file.ok()) return file.status();
    data.files.push_back(*std::move(file));
    return absl::OkStatus();
  };
  for (const std::string& name : source.x()) {
    if (absl::Status s = map(name, data.views.x.emplace_back()); !s.ok()) return s;
  }
  for (const std::string& name : source.y()) {
    if (absl::Status s = map(name, data.views.y.emplace_back()); !s.ok()) return s;
  }
  if (!source.sample_weight().empty()) {
    if (absl::Status s = map(source.sample_weight(), data.views.sample_weight.emplace()); !s.ok()) {
      return s;
    }
  }
  return data;
}

v1::Blob DescribeBlob(const std::string& bytes) {
  v1::Blob blob;
  blob.set_sha256(Sha256(bytes));
  blob.set_size_bytes(static_cast<int64_t>(bytes.size()));
  return blob;
}

void SendEvents(JobRun& run, ServerLink& link) {
  std::vector<v1::Event> events = run.TakeEvents();
  if (events.empty()) return;
  v1::WorkerMessage message;
  for (v1::Event& event : events) *message.mutable_report()->add_events() = std::move(event);
  link.Send(std::move(message));
}

// The weights as they are between two steps; what comes of it does not hold up the training.
void SendSnapshot(const JobRun& run, int64_t request_id, ServerLink& link) {
  v1::WorkerMessage message;
  v1::Snapshot& snapshot = *message.mutable_snapshot();
  snapshot.set_request_id(request_id);
  snapshot.set_step(run.step());
  if (run.step() == 0) return link.Send(std::move(message));
  std::string bytes = run.SerializeWeights();
  const v1::Blob blob = DescribeBlob(bytes);
  *snapshot.mutable_weights() = blob;
  link.SendWithBlob(std::move(message), blob, std::move(bytes));
}

// OK once the job is trained or stopped; an error is the job's own fault.
absl::Status Train(const v1::Assignment& assignment, const LabelledData& train,
                   const std::optional<LabelledData>& validation, std::string_view initial_weights,
                   int threads, ServerLink& link) {
  // The server has checked the job, memory included.
  absl::StatusOr<JobPlan> plan =
      PlanJob(assignment.spec(), assignment.train(),
              assignment.has_validation() ? &assignment.validation() : nullptr,
              std::numeric_limits<int64_t>::max());
  if (!plan.ok()) return plan.status();
  const int wanted = plan->spec.resources().threads();
  ThreadPool pool(wanted == 0 ? threads : std::min(wanted, threads));
  absl::StatusOr<std::unique_ptr<JobRun>> started =
      StartJob(*plan, train, validation, &pool, initial_weights);
  if (!started.ok()) return started.status();
  JobRun& run = **started;

  while (!run.done() && !link.stop_requested()) {
    if (const int64_t request = link.TakeSnapshotRequest(); request != 0) {
      SendSnapshot(run, request, link);
    }
    absl::Status stepped = run.Step();
    SendEvents(run, link);
    if (!stepped.ok()) return stepped;
  }

  v1::WorkerMessage message;
  v1::Outcome& outcome = *message.mutable_outcome();
  if (!run.done()) {
    outcome.set_cancelled(true);
    link.Send(std::move(message));
    return absl::OkStatus();
  }
  std::string bytes = run.SerializeWeights();
  const v1::Blob blob = DescribeBlob(bytes);
  *outcome.mutable_success()->mutable_weights() = blob;
  outcome.mutable_success()->set_state_hash(run.StateHash());
  outcome.mutable_success()->set_steps(run.step());
  link.SendWithBlob(std::move(message), blob, std::move(bytes));
  return absl::OkStatus();
}

// The one place where what libraries throw becomes the job's failure.
absl::Status TrainGuarded(const v1::Assignment& assignment, const LabelledData& train,
                          const std::optional<LabelledData>& validation,
                          std::string_view initial_weights, int threads, ServerLink& link) {
  try {
    return Train(assignment, train, validation, initial_weights, threads, link);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the worker ran out of memory");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected: ", error.what()));
  }
}

}  // namespace

absl::Status RunAssignment(const v1::Assignment& assignment, int threads, const DataCache& cache,
                           BlobClient& blobs, ServerLink& link) {
  absl::StatusOr<MappedData> train =
      MapData(assignment.train(), assignment.spec().data().train(), cache, blobs);
  if (!train.ok()) return train.status();
  std::optional<MappedData> validation;
  if (assignment.has_validation()) {
    absl::StatusOr<MappedData> mapped =
        MapData(assignment.validation(), assignment.spec().data().validation(), cache, blobs);
    if (!mapped.ok()) return mapped.status();
    validation = *std::move(mapped);
  }
  std::optional<MappedFile> weights_file;
  std::string_view initial_weights;
  if (assignment.spec().has_initial_weights()) {
    absl::StatusOr<MappedFile> mapped =
        MapBlob(assignment.spec().initial_weights().safetensors(), cache, blobs);
    if (!mapped.ok()) return mapped.status();
    weights_file = *std::move(mapped);
    const std::span<const std::byte> bytes = weights_file->bytes();
    initial_weights = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  const absl::Status trained =
      TrainGuarded(assignment, train->views,
                   validation.has_value() ? std::optional(validation->views) : std::nullopt,
                   initial_weights, threads, link);
  if (!trained.ok()) {
    v1::WorkerMessage message;
    message.mutable_outcome()->set_failure(std::string(trained.message()));
    link.Send(std::move(message));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
