// A real worker against a real server in this process: the whole path of a small job.

#include "server/worker/worker.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/api/blob_service.h"
#include "server/api/handler.h"
#include "server/jobs/worker_service.h"
#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

class WorkerTest : public JobsTest {
 protected:
  void SetUp() override {
    JobsTest::SetUp();
    StartServer("secret");
  }
  void StartServer(const std::string& token) {
    workers_ = std::make_unique<WorkerService>(token, manager_.get());
    gate_ = std::make_unique<Gate>(token, &executor_);
    blob_service_ = std::make_unique<BlobService>(gate_.get(), blobs_.get());
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + directory_ / "worker.sock",
                             grpc::InsecureServerCredentials());
    builder.RegisterService(workers_.get());
    builder.RegisterService(blob_service_.get());
    server_ = builder.BuildAndStart();
  }
  void TearDown() override { StopServer(); }
  void StopServer() {
    manager_->Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  WorkerOptions Options() {
    WorkerOptions options;
    options.server = "unix:" + directory_ / "worker.sock";
    options.token = [] { return std::string("secret"); };
    options.grace_seconds = 0;
    options.cache_directory = directory_ / "cache";
    options.threads = 2;
    return options;
  }

  // The job once it has ended; bounded.
  v1::Job WaitForEnd(const std::string& id) {
    std::shared_ptr<EventLog> log = Value(manager_->Log(id));
    for (int64_t next = 1;;) {
      absl::Notification ready;
      const int64_t ticket = log->NotifyFrom(next, [&] { ready.Notify(); });
      if (!ready.WaitForNotificationWithTimeout(absl::Seconds(60))) {
        log->CancelNotify(ticket);
        ADD_FAILURE() << id << " does not end";
        return Job(id);
      }
      const EventLog::Batch batch = Value(log->Read(next, 100));
      if (batch.end) return Job(id);
      if (!batch.events.empty()) next = batch.events.back().sequence() + 1;
    }
  }

  Executor executor_{2};
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<WorkerService> workers_;
  std::unique_ptr<BlobService> blob_service_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(WorkerTest, TrainsAJobAndEndsWithItsServer) {
  int exit_code = -1;
  std::thread worker([&] { exit_code = RunWorker(Options()); });
  Submit("first");
  const v1::Job first = WaitForEnd("first");
  EXPECT_EQ(first.state(), v1::SUCCEEDED) << first.state_reason();
  EXPECT_EQ(first.progress().step(), 4);
  EXPECT_EQ(first.state_hash().size(), 64u);
  const v1::ModelVersion model = Value(store_->GetModel("first", 1));
  EXPECT_EQ(Value(blobs_->ReadAll(model.weights().sha256())).size(),
            static_cast<size_t>(model.weights().size_bytes()));
  EXPECT_EQ(model.metrics(0).name(), "loss");

  // The same job again, on the same worker: the same bits.
  Submit("second");
  EXPECT_EQ(WaitForEnd("second").state_hash(), first.state_hash());

  StopServer();
  worker.join();
  EXPECT_EQ(exit_code, kWorkerServerGone);
}

TEST_F(WorkerTest, ALongJobIsSnapshotAndCancelled) {
  std::thread worker([&] { RunWorker(Options()); });
  v1::SubmitJobRequest request = Request("long");
  request.mutable_spec()->mutable_training()->set_epochs(100'000'000);
  request.mutable_spec()->mutable_training()->set_log_every(1'000'000'000);
  ASSERT_TRUE(manager_->Submit(request).ok());

  absl::StatusOr<v1::Weights> weights;
  for (int i = 0; i < 1000 && !weights.ok(); ++i) {  // until it runs and has done a step
    absl::Notification answered;
    manager_->Weights("long", [&](absl::StatusOr<v1::Weights> w) {
      weights = std::move(w);
      answered.Notify();
    });
    ASSERT_TRUE(answered.WaitForNotificationWithTimeout(absl::Seconds(60)));
    if (!weights.ok()) absl::SleepFor(absl::Milliseconds(10));
  }
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_GT(weights->step(), 0);
  EXPECT_TRUE(HasBlob(weights->blob()));
  ASSERT_TRUE(manager_->Cancel("long").ok());

  Submit("next");  // waits until the worker has let go of the long one
  EXPECT_EQ(WaitForEnd("next").state(), v1::SUCCEEDED);
  EXPECT_EQ(Job("long").state(), v1::CANCELLED);
  StopServer();
  worker.join();
}

TEST_F(WorkerTest, AJobThatWasPausedGoesOnFromItsCheckpointToTheSameBits) {
  std::thread worker([&] { RunWorker(Options()); });
  v1::SubmitJobRequest request = Request("undisturbed");
  request.mutable_spec()->mutable_training()->set_epochs(30000);
  ASSERT_TRUE(manager_->Submit(request).ok());
  const v1::Job undisturbed = WaitForEnd("undisturbed");
  ASSERT_EQ(undisturbed.state(), v1::SUCCEEDED) << undisturbed.state_reason();

  request.set_id("paused");
  ASSERT_TRUE(manager_->Submit(request).ok());
  for (int i = 0; i < 1000 && Job("paused").progress().step() == 0; ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  ASSERT_TRUE(manager_->Pause("paused").ok());
  ASSERT_TRUE(manager_->Resume("paused").ok());
  const v1::Job paused = WaitForEnd("paused");
  EXPECT_EQ(paused.state(), v1::SUCCEEDED) << paused.state_reason();
  EXPECT_EQ(paused.state_hash(), undisturbed.state_hash());
  EXPECT_THAT(Events("paused"), testing::Contains(testing::Truly([](const v1::Event& event) {
                return event.text().text().starts_with("goes on from the checkpoint");
              })));
  StopServer();
  worker.join();
}

TEST_F(WorkerTest, AServerThatComesBackWithANewTokenHearsAllOfTheAttemptUnderWay) {
  v1::SubmitJobRequest request = Request("undisturbed");
  request.mutable_spec()->mutable_training()->set_epochs(3000);
  ASSERT_TRUE(manager_->Submit(request).ok());
  request.set_id("disturbed");
  ASSERT_TRUE(manager_->Submit(request).ok());
  WorkerOptions options = Options();
  std::atomic<bool> restarted = false;
  options.token = [&] { return std::string(restarted ? "new" : "secret"); };
  options.grace_seconds = 3;
  int exit_code = -1;
  std::thread worker([&] { exit_code = RunWorker(options); });
  const v1::Job undisturbed = WaitForEnd("undisturbed");
  for (int i = 0; i < 1000 && Job("disturbed").progress().step() == 0; ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  StopServer();
  restarted = true;
  server_.reset();
  workers_.reset();
  Start();
  StartServer("new");
  const v1::Job disturbed = WaitForEnd("disturbed");
  EXPECT_EQ(disturbed.state(), v1::SUCCEEDED) << disturbed.state_reason();
  EXPECT_EQ(disturbed.attempt(), 1);
  EXPECT_EQ(disturbed.state_hash(), undisturbed.state_hash());
  int64_t epochs = 0;
  for (const v1::Event& event : Events("disturbed")) {
    if (event.has_epoch()) {
      EXPECT_EQ(event.epoch().epoch(), ++epochs);
    }
  }
  EXPECT_EQ(epochs, 3000);
  StopServer();
  worker.join();
  EXPECT_EQ(exit_code, kWorkerServerGone);
}

TEST_F(WorkerTest, BadValuesAreTheJobsFaultAndTheWorkerGoesOn) {
  v1::Dataset bad = Value(store_->GetDataset("tiny"));
  bad.set_name("bad");
  *bad.mutable_tensors(1)->mutable_blob() = AddBlob(std::string("\0\1\2\3\4\5\6\7", 8));
  bad.set_digest(DatasetDigest(bad));
  Value(store_->InsertDataset(bad));
  v1::SubmitJobRequest request = Request("bad");
  request.mutable_spec()->mutable_data()->mutable_train()->set_dataset("bad");
  ASSERT_TRUE(manager_->Submit(request).ok());
  std::thread worker([&] { RunWorker(Options()); });
  const v1::Job job = WaitForEnd("bad");
  EXPECT_EQ(job.state(), v1::FAILED);
  EXPECT_THAT(job.state_reason(), HasSubstr("3")) << "the first label outside of [0, 3)";
  EXPECT_EQ(job.attempt(), 1);
  Submit("good");
  EXPECT_EQ(WaitForEnd("good").state(), v1::SUCCEEDED);
  StopServer();
  worker.join();
}

TEST_F(WorkerTest, AWrongTokenOrNoServerHasItsExitCode) {
  WorkerOptions options = Options();
  options.token = [] { return std::string("wrong"); };
  EXPECT_EQ(RunWorker(options), kWorkerRefused);
  options.cache_directory = "/dev/null/cache";
  EXPECT_EQ(RunWorker(options), kWorkerBadCache);
}

}  // namespace
}  // namespace lockstep
