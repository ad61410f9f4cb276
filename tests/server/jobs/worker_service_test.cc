#include "server/jobs/worker_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

class WorkerServiceTest : public JobsTest {
 protected:
  void SetUp() override {
    JobsTest::SetUp();
    service_ = std::make_unique<WorkerService>("secret", manager_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::WorkerService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                           grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>> stream;
  };
  std::unique_ptr<Stream> Connect(const v1::WorkerMessage& first) {
    auto stream = std::make_unique<Stream>();
    stream->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    stream->stream = stub_->Connect(&stream->context);
    stream->stream->Write(first);
    return stream;
  }
  grpc::StatusCode RefusalOf(const v1::WorkerMessage& first) {
    const auto stream = Connect(first);
    v1::ServerMessage message;
    EXPECT_FALSE(stream->stream->Read(&message)) << message.DebugString();
    return stream->stream->Finish().error_code();
  }
  static v1::WorkerMessage Hello(const std::string& token, const std::string& contract) {
    v1::WorkerMessage message;
    message.mutable_hello()->set_token(token);
    message.mutable_hello()->set_contract(contract);
    message.mutable_hello()->set_threads(1);
    message.mutable_hello()->set_supervised(true);
    return message;
  }

  std::unique_ptr<WorkerService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
};

TEST_F(WorkerServiceTest, StrangersGetNoWork) {
  Submit("a");
  EXPECT_EQ(RefusalOf(Hello("", kContract)), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(RefusalOf(Hello("secreT", kContract)), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(RefusalOf(Hello("secret2", kContract)), grpc::StatusCode::PERMISSION_DENIED);
  v1::WorkerMessage outcome;
  outcome.set_job_id("a");
  outcome.mutable_outcome()->set_failure("pretended");
  EXPECT_EQ(RefusalOf(outcome), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(RefusalOf(Hello("secret", "lockstep-0")), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Job("a").state(), v1::QUEUED);
  EXPECT_EQ(Job("a").attempt(), 0);
}

TEST_F(WorkerServiceTest, AWorkerThatVanishesGivesItsJobBack) {
  Submit("a");
  {
    const auto worker = Connect(Hello("secret", kContract));
    v1::ServerMessage message;
    ASSERT_TRUE(worker->stream->Read(&message));
    EXPECT_TRUE(message.has_assignment());
    worker->context.TryCancel();
    worker->stream->Finish();
  }
  const auto next = Connect(Hello("secret", kContract));
  v1::ServerMessage message;
  ASSERT_TRUE(next->stream->Read(&message));
  EXPECT_EQ(message.job_id(), "a");
  EXPECT_EQ(message.attempt(), 2);

  v1::WorkerMessage outcome;
  outcome.set_job_id("a");
  outcome.set_attempt(2);
  outcome.mutable_outcome()->set_failure("no luck");
  next->stream->Write(outcome);
  next->stream->WritesDone();
  EXPECT_TRUE(next->stream->Finish().ok());
  EXPECT_EQ(Job("a").state(), v1::FAILED);
}

}  // namespace
}  // namespace lockstep
