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

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/data/digest.h"
#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_plan.h"
#include "core/training/job_run.h"
#include "server/worker/checkpoint_saver.h"
#include "server/worker/job_limits.h"

namespace lockstep {
namespace {

constexpr absl::Duration kRetryPause = absl::Milliseconds(300);

template <typename T>
bool IsGone(const absl::StatusOr<T>& result) {
  return absl::IsUnavailable(result.status()) || absl::IsUnauthenticated(result.status());
}

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

// Whether an epoch ended.
bool SendEvents(JobRun& run, ServerLink& link) {
  std::vector<v1::Event> events = run.TakeEvents();
  if (events.empty()) return false;
  bool epoch_ended = false;
  v1::WorkerMessage message;
  for (v1::Event& event : events) {
    epoch_ended |= event.has_epoch();
    *message.mutable_report()->add_events() = std::move(event);
  }
  link.Send(std::move(message));
  return epoch_ended;
}

void SendText(v1::Text::Severity severity, std::string text, ServerLink& link) {
  v1::WorkerMessage message;
  v1::Text& said = *message.mutable_report()->add_events()->mutable_text();
  said.set_severity(severity);
  said.set_text(std::move(text));
  link.Send(std::move(message));
}

// The weights as they are between two steps; what comes of it does not hold up the training.
void SendSnapshot(const JobRun& run, int64_t request_id, CheckpointSaver& saver, ServerLink& link) {
  v1::WorkerMessage message;
  v1::Snapshot& snapshot = *message.mutable_snapshot();
  snapshot.set_request_id(request_id);
  snapshot.set_step(run.step());
  if (run.step() == 0) return link.Send(std::move(message));
  auto bytes = std::make_shared<const std::string>(run.SerializeWeights());
  const v1::Blob blob = DescribeBlob(*bytes);
  *snapshot.mutable_weights() = blob;
  saver.SendWithBlob(std::move(message), blob, std::move(bytes));
}

// Again while the server is gone, until the assignment is cancelled.
template <typename Call>
auto WhileUnavailable(ServerLink& link, Call call) {
  auto result = call();
  while (IsGone(result) && !link.WaitForCancel(kRetryPause)) result = call();
  return result;
}

// NOT_FOUND, DATA_LOSS and INVALID_ARGUMENT are the checkpoint's fault, all else the worker's.
absl::StatusOr<RunSnapshot> FetchCheckpoint(const JobPlan& plan, const v1::Blob& blob,
                                            BlobClient& blobs) {
  std::string bytes;
  const absl::Status fetched =
      blobs.Fetch(blob.sha256(), 0, [&](std::string_view piece) -> absl::Status {
        bytes.append(piece);
        if (static_cast<int64_t>(bytes.size()) <= blob.size_bytes()) return absl::OkStatus();
        return absl::DataLossError("it is longer than it was");
      });
  if (!fetched.ok()) return fetched;
  if (static_cast<int64_t>(bytes.size()) != blob.size_bytes() || Sha256(bytes) != blob.sha256()) {
    return absl::DataLossError("its bytes are not what its digest says");
  }
  return ReadCheckpoint(plan, bytes);
}

// A run, from the newest usable checkpoint on.
struct StartedRun {
  absl::StatusOr<std::unique_ptr<JobRun>> run;  // an error is the job's own fault
  std::string checkpoint_sha256;                // empty: from the first step
};

// An error is the worker's fault, or the assignment was cancelled.
absl::StatusOr<StartedRun> StartOrRestore(
    const v1::Assignment& assignment, const JobPlan& plan, BlobClient& blobs, ServerLink& link,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<JobRun>>()> start) {
  absl::StatusOr<std::unique_ptr<JobRun>> run = start();
  for (const v1::Checkpoint& checkpoint : assignment.checkpoints()) {
    if (!run.ok()) break;
    const absl::StatusOr<RunSnapshot> snapshot =
        WhileUnavailable(link, [&] { return FetchCheckpoint(plan, checkpoint.blob(), blobs); });
    absl::Status status = snapshot.status();
    if (status.ok()) {
      status = (*run)->Restore(*snapshot);
      if (status.ok()) {
        SendText(v1::Text::INFO,
                 absl::StrCat("goes on from the checkpoint of step ", checkpoint.step()), link);
        return StartedRun{std::move(run), checkpoint.blob().sha256()};
      }
      run = start();
    }
    if (!absl::IsNotFound(status) && !absl::IsDataLoss(status) &&
        !absl::IsInvalidArgument(status)) {
      return status;
    }
    SendText(v1::Text::WARNING,
             absl::StrCat("cannot use the checkpoint of step ", checkpoint.step(), " (",
                          checkpoint.blob().sha256(), "): ", status.message()),
             link);
  }
  return StartedRun{std::move(run), ""};
}

void SaveCheckpoint(const JobRun& run, CheckpointSaver& saver) {
  const absl::Time begin = absl::Now();
  RunSnapshot snapshot = run.Save();
  saver.Save(std::move(snapshot), absl::Now() - begin);
}

// Steps until the run is done or is to end otherwise.
absl::Status RunSteps(JobRun& run, int64_t saved_step, JobLimits& limits, CheckpointSaver& saver,
                      ServerLink& link) {
  while (!run.done() && !link.cancelled()) {
    if (link.on_hold()) {
      link.WaitWhileOnHold();
      continue;
    }
    if (link.yield_requested()) {
      saver.WaitUntilIdle();
      if (run.step() > saved_step) SaveCheckpoint(run, saver);
      saver.WaitUntilIdle();
      return absl::OkStatus();
    }
    if (const int64_t request = link.TakeSnapshotRequest(); request != 0) {
      SendSnapshot(run, request, saver, link);
    }
    if (absl::Status within = limits.Check(); !within.ok()) return within;
    const absl::Status stepped = run.Step();
    const bool epoch_ended = SendEvents(run, link);
    if (!stepped.ok()) return stepped;
    if (!run.done() && saver.Due(run.step(), epoch_ended)) {
      SaveCheckpoint(run, saver);
      saved_step = run.step();
    }
  }
  return absl::OkStatus();
}

// How an assignment ended, and the bytes of the weights that it names.
struct Ended {
  v1::Outcome outcome;
  std::shared_ptr<const std::string> weights;
};

Ended Failed(absl::string_view why) {
  Ended ended;
  ended.outcome.set_failure(std::string(why));
  return ended;
}

// An error is the worker's fault, or the assignment was cancelled; the job's own is an outcome.
absl::StatusOr<Ended> Train(const v1::Assignment& assignment, const LabelledData& train,
                            const std::optional<LabelledData>& validation,
                            std::string_view initial_weights, int threads, BlobClient& blobs,
                            ServerLink& link) {
  JobLimits limits(assignment);
  // The server has checked the job, memory included.
  absl::StatusOr<JobPlan> plan =
      PlanJob(assignment.spec(), assignment.train(),
              assignment.has_validation() ? &assignment.validation() : nullptr,
              std::numeric_limits<int64_t>::max());
  if (!plan.ok()) return Failed(plan.status().message());
  const int wanted = plan->spec.resources().threads();
  const int spec_threads = wanted == 0 ? threads : std::min(wanted, threads);
  ThreadPool pool(assignment.threads() > 0 ? assignment.threads() : spec_threads);
  absl::StatusOr<StartedRun> started = StartOrRestore(assignment, *plan, blobs, link, [&] {
    return StartJob(*plan, train, validation, &pool, initial_weights);
  });
  if (!started.ok()) return started.status();
  if (!started->run.ok()) return Failed(started->run.status().message());
  JobRun& run = **started->run;
  {
    const int64_t first_step = run.step();
    // Gone before the outcome: nothing comes after that.
    CheckpointSaver saver(*plan, started->checkpoint_sha256, &blobs, &link);
    const absl::Status status = RunSteps(run, first_step, limits, saver, link);
    if (!status.ok()) return Failed(status.message());
  }
  Ended ended;
  if (!run.done()) {
    ended.outcome.set_yielded(true);
    return ended;
  }
  ended.weights = std::make_shared<const std::string>(run.SerializeWeights());
  const v1::Blob blob = DescribeBlob(*ended.weights);
  const absl::Status uploaded = UploadPatiently(blob, *ended.weights, blobs, link);
  if (absl::IsCancelled(uploaded)) return uploaded;
  if (!uploaded.ok()) return Failed(uploaded.message());
  *ended.outcome.mutable_success()->mutable_weights() = blob;
  ended.outcome.mutable_success()->set_state_hash(run.StateHash());
  ended.outcome.mutable_success()->set_steps(run.step());
  return ended;
}

// The one place where what libraries throw becomes the job's failure.
absl::StatusOr<Ended> TrainGuarded(const v1::Assignment& assignment, const LabelledData& train,
                                   const std::optional<LabelledData>& validation,
                                   std::string_view initial_weights, int threads, BlobClient& blobs,
                                   ServerLink& link) {
  try {
    return Train(assignment, train, validation, initial_weights, threads, blobs, link);
  } catch (const std::bad_alloc&) {
    return Failed("the worker ran out of memory");
  } catch (const std::exception& error) {
    return Failed(absl::StrCat("unexpected: ", error.what()));
  }
}

absl::StatusOr<Ended> MapAndTrain(const v1::Assignment& assignment, int threads,
                                  const DataCache& cache, BlobClient& blobs, ServerLink& link) {
  absl::StatusOr<MappedData> train = WhileUnavailable(link, [&] {
    return MapData(assignment.train(), assignment.spec().data().train(), cache, blobs);
  });
  if (!train.ok()) return train.status();
  std::optional<MappedData> validation;
  if (assignment.has_validation()) {
    absl::StatusOr<MappedData> mapped = WhileUnavailable(link, [&] {
      return MapData(assignment.validation(), assignment.spec().data().validation(), cache, blobs);
    });
    if (!mapped.ok()) return mapped.status();
    validation = *std::move(mapped);
  }
  std::optional<MappedFile> weights_file;
  std::string_view initial_weights;
  if (assignment.spec().has_initial_weights()) {
    absl::StatusOr<MappedFile> mapped = WhileUnavailable(link, [&] {
      return MapBlob(assignment.spec().initial_weights().safetensors(), cache, blobs);
    });
    if (!mapped.ok()) return mapped.status();
    weights_file = *std::move(mapped);
    const std::span<const std::byte> bytes = weights_file->bytes();
    initial_weights = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  return TrainGuarded(assignment, train->views,
                      validation.has_value() ? std::optional(validation->views) : std::nullopt,
                      initial_weights, threads, blobs, link);
}

}  // namespace

absl::Status RunAssignment(const v1::Assignment& assignment, int threads, const DataCache& cache,
                           BlobClient& blobs, ServerLink& link) {
  absl::StatusOr<Ended> ended = MapAndTrain(assignment, threads, cache, blobs, link);
  v1::WorkerMessage message;
  if (link.cancelled()) {  // whatever else it came to
    message.mutable_outcome()->set_cancelled(true);
    link.Send(std::move(message));
    return absl::OkStatus();
  }
  if (!ended.ok()) return ended.status();
  *message.mutable_outcome() = std::move(ended->outcome);
  link.Send(std::move(message), std::move(ended->weights));
  return absl::OkStatus();
}

}  // namespace lockstep
