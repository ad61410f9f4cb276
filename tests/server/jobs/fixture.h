#ifndef LOCKSTEP_TESTS_SERVER_JOBS_FIXTURE_H_
#define LOCKSTEP_TESTS_SERVER_JOBS_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "core/data/digest.h"
#include "core/training/job_plan.h"
#include "server/jobs/job_manager.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"
#include "server/telemetry/metrics.h"
#include "tests/temporary_directory.h"

namespace lockstep {

// Stands where a worker's stream would: keeps what the manager sends, says what the test wants.
class FakeWorker final : public WorkerLink {
 public:
  // One that dies with its server, with a thread on a machine with enough cores for all.
  static v1::WorkerMessage Supervised() {
    v1::WorkerMessage message;
    v1::Hello& hello = *message.mutable_hello();
    hello.set_host("fake");
    hello.set_threads(1);
    hello.set_cores(16);
    hello.set_supervised(true);
    return message;
  }
  // One that may outlive its server, or lose it.
  static v1::WorkerMessage Remote(int64_t pid) {
    v1::WorkerMessage message = Supervised();
    message.mutable_hello()->set_supervised(false);
    message.mutable_hello()->set_pid(pid);
    return message;
  }

  explicit FakeWorker(JobManager* manager, const v1::WorkerMessage& hello = Supervised())
      : manager_(manager) {
    id_ = manager_->Join(hello, this);
  }
  ~FakeWorker() override {
    if (id_ != 0) Leave("the test is over");
  }

  void Send(v1::ServerMessage message) override {
    absl::MutexLock lock(&mu_);
    received_.push_back(std::move(message));
  }
  std::vector<v1::ServerMessage> received() const {
    absl::MutexLock lock(&mu_);
    return received_;
  }
  v1::ServerMessage last() const {
    absl::MutexLock lock(&mu_);
    return received_.empty() ? v1::ServerMessage() : received_.back();
  }

  void Leave(const std::string& reason) { manager_->Leave(std::exchange(id_, 0), reason); }

  // Answers belong to the given message's job and attempt.
  absl::Status Handle(const v1::ServerMessage& about, v1::WorkerMessage message) {
    message.set_job_id(about.job_id());
    message.set_attempt(about.attempt());
    return manager_->Handle(id_, message);
  }
  void ReportStep(const v1::ServerMessage& about, int64_t step, double loss) {
    v1::WorkerMessage message;
    v1::StepRecord& record = *message.mutable_report()->add_events()->mutable_step();
    record.set_step(step);
    record.set_epoch(1);
    record.set_step_in_epoch(step);
    v1::MetricSummary& metric = *record.add_metrics();
    metric.set_name("loss");
    metric.set_last(loss);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void ReportEpoch(const v1::ServerMessage& about, int64_t epoch, int64_t step,
                   const std::string& state_hash, double loss) {
    v1::WorkerMessage message;
    v1::EpochRecord& record = *message.mutable_report()->add_events()->mutable_epoch();
    record.set_epoch(epoch);
    record.set_step(step);
    record.set_state_hash(state_hash);
    v1::Metric& metric = *record.add_metrics();
    metric.set_name("loss");
    metric.set_value(loss);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void ReportCheckpoint(const v1::ServerMessage& about, int64_t step, const v1::Blob& blob) {
    v1::WorkerMessage message;
    *message.mutable_checkpoint()->mutable_blob() = blob;
    message.mutable_checkpoint()->set_step(step);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void Succeed(const v1::ServerMessage& about, const v1::Blob& weights) {
    v1::WorkerMessage message;
    v1::Success& success = *message.mutable_outcome()->mutable_success();
    *success.mutable_weights() = weights;
    success.set_state_hash("abc");
    success.set_steps(4);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void Fail(const v1::ServerMessage& about, const std::string& why) {
    v1::WorkerMessage message;
    message.mutable_outcome()->set_failure(why);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void ConfirmCancelled(const v1::ServerMessage& about) {
    v1::WorkerMessage message;
    message.mutable_outcome()->set_cancelled(true);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }
  void ConfirmYielded(const v1::ServerMessage& about) {
    v1::WorkerMessage message;
    message.mutable_outcome()->set_yielded(true);
    EXPECT_TRUE(Handle(about, std::move(message)).ok());
  }

 private:
  JobManager* const manager_;
  WorkerId id_ = 0;
  mutable absl::Mutex mu_;
  std::vector<v1::ServerMessage> received_ ABSL_GUARDED_BY(mu_);
};

// A manager on a directory of its own, with a data set of 8 samples of 4 numbers in 3 classes.
class JobsTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = Value(Store::Open(directory_ / "lockstep.db"));
    blobs_ = Value(BlobStore::Open(directory_ / "blobs"));
    v1::Dataset dataset;
    dataset.set_name("tiny");
    AddTensor("x", "float32", {8, 4}, std::string(8 * 4 * sizeof(float), '\0'), dataset);
    AddTensor("y", "uint8", {8}, std::string("\0\1\2\0\1\2\0\1", 8), dataset);
    dataset.set_digest(DatasetDigest(dataset));
    Value(store_->InsertDataset(dataset));
    Start();
  }

  // A new manager on the same directory, as after a crash of the one before.
  void Start() {
    manager_.reset();
    metrics_ = std::make_unique<Metrics>();
    JobManager::Options options;
    options.metrics = metrics_.get();
    options.runs_directory = directory_ / "runs";
    options.max_job_memory_bytes = int64_t{1} << 30;
    options.worker_grace = kGrace;
    options.keep_jobs = keep_jobs_;
    options.on_log = on_log_;
    options.now = [this] { return now_; };
    manager_ = Value(JobManager::Create(std::move(options), store_.get(), blobs_.get()));
  }
  // Time only passes when a test says so.
  void Advance(std::chrono::milliseconds time) {
    now_ += time;
    manager_->Tick();
  }

  template <typename T>
  static T Value(absl::StatusOr<T> result) {
    if (!result.ok()) {
      ADD_FAILURE() << result.status();
      std::abort();
    }
    return *std::move(result);
  }

  v1::Blob AddBlob(const std::string& bytes) {
    v1::Blob blob;
    blob.set_sha256(Sha256(bytes));
    blob.set_size_bytes(static_cast<int64_t>(bytes.size()));
    auto writer = blobs_->Write(blob);
    if (absl::IsAlreadyExists(writer.status())) return blob;
    EXPECT_TRUE(writer.ok()) << writer.status();
    EXPECT_TRUE((*writer)->Append(bytes).ok());
    EXPECT_TRUE((*writer)->Commit().ok());
    return blob;
  }
  bool HasBlob(const v1::Blob& blob) { return Value(blobs_->Stat(blob)).complete(); }

  static v1::JobSpec TinySpec() {
    v1::JobSpec spec;
    spec.mutable_model()->add_inputs()->add_shape(4);
    v1::Dense& dense = *spec.mutable_model()->add_layers()->mutable_dense();
    dense.set_units(3);
    dense.set_activation("softmax");
    spec.mutable_data()->mutable_train()->set_dataset("tiny");
    spec.mutable_training()->set_batch_size(4);
    spec.mutable_training()->set_epochs(2);
    spec.mutable_training()->add_losses()->mutable_sparse_categorical_crossentropy();
    return spec;
  }
  v1::SubmitJobRequest Request(const std::string& id) {
    v1::SubmitJobRequest request;
    request.set_id(id);
    *request.mutable_spec() = TinySpec();
    return request;
  }
  v1::Job Submit(const std::string& id) { return Value(manager_->Submit(Request(id))); }
  v1::Job Job(const std::string& id) { return Value(manager_->Get(id)); }
  std::vector<v1::Job> AllJobs() {
    v1::ListJobsRequest request;
    request.set_page_size(1000);
    const v1::ListJobsResponse response = Value(manager_->List(request));
    return {response.jobs().begin(), response.jobs().end()};
  }

  // All that there are now; one read gives a few MiB of them.
  std::vector<v1::Event> Events(const std::string& id) {
    const std::shared_ptr<EventLog> log = Value(manager_->Log(id));
    std::vector<v1::Event> events;
    while (true) {
      EventLog::Batch batch = Value(log->Read(std::ssize(events) + 1, 10'000));
      if (batch.events.empty()) return events;
      std::ranges::move(batch.events, std::back_inserter(events));
    }
  }
  std::vector<v1::JobState> States(const std::string& id) {
    std::vector<v1::JobState> states;
    for (const v1::Event& event : Events(id)) {
      if (event.has_state()) states.push_back(event.state().state());
    }
    return states;
  }

  static constexpr std::chrono::milliseconds kGrace{10'000};

  TemporaryDirectory directory_;
  SteadyTime now_{std::chrono::hours(1)};
  int64_t keep_jobs_ = 0;
  std::function<void(const std::string& id)> on_log_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<JobManager> manager_;

 private:
  void AddTensor(const std::string& name, const std::string& dtype,
                 const std::vector<int64_t>& shape, const std::string& bytes,
                 v1::Dataset& dataset) {
    v1::Tensor& tensor = *dataset.add_tensors();
    tensor.set_name(name);
    tensor.set_dtype(dtype);
    tensor.mutable_shape()->Assign(shape.begin(), shape.end());
    *tensor.mutable_blob() = AddBlob(bytes);
  }
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_JOBS_FIXTURE_H_
