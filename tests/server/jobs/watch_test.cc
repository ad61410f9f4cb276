// JobService over a real connection: watchers above all.

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <thread>

#include "server/api/handler.h"
#include "server/jobs/job_service.h"
#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

using testing::ElementsAre;

class WatchTest : public JobsTest {
 protected:
  void SetUp() override {
    JobsTest::SetUp();
    service_ = std::make_unique<JobService>(&gate_, manager_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::JobService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                        grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  // A call of a watcher, bounded in time.
  struct Watch {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::Event>> reader;

    v1::Event Next() {
      v1::Event event;
      EXPECT_TRUE(reader->Read(&event));
      return event;
    }
    // Everything to the end.
    std::vector<int64_t> Sequences() {
      std::vector<int64_t> sequences;
      v1::Event event;
      while (reader->Read(&event)) sequences.push_back(event.sequence());
      status = reader->Finish();
      return sequences;
    }
    grpc::Status status;
  };
  std::unique_ptr<Watch> StartWatch(const std::string& id, int64_t from) {
    auto watch = std::make_unique<Watch>();
    watch->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::WatchJobRequest request;
    request.set_id(id);
    request.set_from_sequence(from);
    watch->reader = stub_->WatchJob(&watch->context, request);
    return watch;
  }

  Executor executor_{2};
  Gate gate_{"", &executor_};
  std::unique_ptr<JobService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::JobService::Stub> stub_;
};

TEST_F(WatchTest, EventsComeAsTheyHappenAndEndWithTheJob) {
  Submit("a");
  const auto watch = StartWatch("a", 0);
  EXPECT_EQ(watch->Next().state().state(), v1::QUEUED);
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  EXPECT_EQ(watch->Next().state().state(), v1::RUNNING);
  worker.ReportStep(assigned, 1, 0.5);
  const v1::Event step = watch->Next();
  EXPECT_EQ(step.step().step(), 1);
  EXPECT_EQ(step.sequence(), 3);
  EXPECT_EQ(step.attempt(), 1);
  worker.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(watch->Next().state().state(), v1::SUCCEEDED);
  EXPECT_TRUE(watch->Sequences().empty());
  EXPECT_TRUE(watch->status.ok()) << watch->status.error_message();
}

TEST_F(WatchTest, AnEndedJobCanBeReadFromAnySequenceNumber) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  for (int step = 1; step <= 200; ++step) worker.ReportStep(assigned, step, 0.5);
  worker.Succeed(assigned, AddBlob("weights"));  // 203 events, several batches

  const auto all = StartWatch("a", 1);
  const std::vector<int64_t> sequences = all->Sequences();
  ASSERT_EQ(sequences.size(), 203u);
  for (size_t i = 0; i < sequences.size(); ++i) {
    ASSERT_EQ(sequences[i], static_cast<int64_t>(i + 1));
  }
  EXPECT_THAT(StartWatch("a", 202)->Sequences(), ElementsAre(202, 203));
  const auto beyond = StartWatch("a", 1000);
  EXPECT_TRUE(beyond->Sequences().empty());
  EXPECT_TRUE(beyond->status.ok());
}

TEST_F(WatchTest, AWatcherMayLeaveWhileItWaits) {
  Submit("a");
  for (int i = 0; i < 20; ++i) {
    const auto watch = StartWatch("a", 1);
    watch->Next();
    watch->context.TryCancel();
    watch->Sequences();
    EXPECT_EQ(watch->status.error_code(), grpc::StatusCode::CANCELLED);
  }
  const auto last = StartWatch("a", 1);
  EXPECT_TRUE(manager_->Cancel("a").ok());
  EXPECT_THAT(last->Sequences(), ElementsAre(1, 2));
}

// Cancellations that meet the event that ends the wait: whoever comes first, the call ends once.
TEST_F(WatchTest, CancellationAndEventMayCross) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  for (int step = 1; step <= 50; ++step) {
    const auto watch = StartWatch("a", 2 + step);  // the first that is not there yet
    std::thread reporter([&] { worker.ReportStep(assigned, step, 0.5); });
    watch->context.TryCancel();
    watch->Sequences();
    reporter.join();
  }
  worker.Fail(assigned, "enough");
  EXPECT_EQ(StartWatch("a", 1)->Sequences().size(), 53u);
}

// A watcher that never reads holds up nobody.
TEST_F(WatchTest, AWatcherThatStopsReadingHoldsUpNobody) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  const auto asleep = StartWatch("a", 1);
  asleep->Next();
  for (int i = 0; i < 2000; ++i) {
    v1::WorkerMessage message;
    message.mutable_report()->add_events()->mutable_text()->set_text(std::string(1000, 'x'));
    ASSERT_TRUE(worker.Handle(assigned, std::move(message)).ok());
  }
  worker.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(StartWatch("a", 1)->Sequences().size(), 2003u);
  EXPECT_EQ(asleep->Sequences().size(), 2002u) << "it finds everything when it wakes up";
}

TEST_F(WatchTest, RefusalsHaveTheirCodes) {
  const auto unknown = StartWatch("x", 1);
  unknown->Sequences();
  EXPECT_EQ(unknown->status.error_code(), grpc::StatusCode::NOT_FOUND);
  Submit("a");
  const auto negative = StartWatch("a", -1);
  negative->Sequences();
  EXPECT_EQ(negative->status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  ASSERT_TRUE(manager_->Cancel("a").ok());
  grpc::ClientContext context;
  v1::CancelJobRequest cancel;
  cancel.set_id("a");
  v1::Job job;
  EXPECT_EQ(stub_->CancelJob(&context, cancel, &job).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(WatchTest, WeightsOfARunningJobAreAskedOfItsWorker) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  v1::Weights weights;
  std::thread client([&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::GetJobWeightsRequest request;
    request.set_id("a");
    const grpc::Status status = stub_->GetJobWeights(&context, request, &weights);
    EXPECT_TRUE(status.ok()) << status.error_message();
  });
  // Whichever comes first at the manager, the answer is the model's.
  worker.Succeed(assigned, AddBlob("weights"));
  client.join();
  EXPECT_EQ(weights.blob().sha256(), Sha256("weights"));
}

}  // namespace
}  // namespace lockstep
