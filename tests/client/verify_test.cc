// Verifying a receipt: the job that is submitted, and an exit code that can be relied on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "client/cli/commands.h"
#include "client/cli/verification.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "lockstep/v1/registry.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Trains nothing: a job that is submitted has ended in `state` with `state_hash`.
class FakeJobs final : public v1::JobService::Service {
 public:
  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                         v1::Job* job) override {
    if (no_data) return {grpc::StatusCode::INVALID_ARGUMENT, "data.train: there is no data set"};
    submitted = request->spec();
    reuse = request->reuse();
    job->set_id(request->id().empty() ? "verifies" : request->id());
    job->set_state(v1::QUEUED);
    job->set_fingerprint(fingerprint);
    *job->mutable_spec() = request->spec();
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    job->set_id(request->id());
    if (request->id() == "trained") {
      if (forgotten) return {grpc::StatusCode::NOT_FOUND, "no such job"};
      for (const int64_t step : {20, 15, 10}) job->add_checkpoints()->set_step(step);
      return grpc::Status::OK;
    }
    job->set_state(state);
    job->set_state_hash(state_hash);
    job->set_state_reason(reason);
    *job->mutable_spec() = submitted;
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::Event>* writer) override {
    v1::Event event;
    event.set_sequence(1);
    event.mutable_state()->set_state(state);
    writer->Write(event);
    return grpc::Status::OK;
  }

  std::string fingerprint = "f";
  v1::JobState state = v1::SUCCEEDED;
  std::string state_hash = "end";
  std::string reason;
  bool forgotten = false;
  bool no_data = false;
  bool reuse = false;
  v1::JobSpec submitted;
};

class FakeModels final : public v1::ModelService::Service {
 public:
  FakeModels() {
    receipt.set_job_id("trained");
    receipt.set_fingerprint("f");
    receipt.set_steps(20);
    receipt.set_state_hash("end");
    receipt.mutable_spec()->set_publish_as("cnn");
    v1::EpochHash& epoch = *receipt.add_epochs();
    epoch.set_epoch(1);
    epoch.set_step(20);
    epoch.set_state_hash("end");
  }
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                        v1::ModelVersion* response) override {
    if (request->name() != "cnn") return {grpc::StatusCode::NOT_FOUND, "no such model"};
    *response->mutable_receipt() = receipt;
    return grpc::Status::OK;
  }

  v1::Receipt receipt;
};

class VerifyTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  template <typename Command>
  ExitCode Run(Command command, bool json) {
    Session session({.server = server_.address(), .token_file = {}, .json = json});
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitCode code = command(session);
    output_ = testing::internal::GetCapturedStdout();
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }
  ExitCode Check(const VerifyArguments& arguments, bool json = false) {
    return Run([&](Session& session) { return Verify(session, arguments); }, json);
  }
  static VerifyArguments Cnn() {
    VerifyArguments arguments;
    arguments.model = "cnn:1";
    return arguments;
  }

  FakeJobs jobs_;
  FakeModels models_;
  FakeServer server_{{&jobs_, &models_}};
  std::string output_, errors_;
  const std::filesystem::path directory_ =
      testing::TempDir() + "/verify_test." + std::to_string(getpid());
};

TEST_F(VerifyTest, TrainsTheReceiptAgainAndSaysThatItIsTheSame) {
  VerifyArguments arguments = Cnn();
  arguments.threads = 3;
  arguments.id = "again";
  EXPECT_EQ(Check(arguments), kOk) << errors_;
  EXPECT_THAT(output_, HasSubstr("job again verifies state hash end\n"));
  EXPECT_THAT(output_, HasSubstr("verified: 20 steps, 1 epoch, state hash end is the receipt's\n"));
  EXPECT_THAT(output_, Not(HasSubstr("WARNING")));
  EXPECT_EQ(jobs_.submitted.publish_as(), "cnn");
  EXPECT_EQ(jobs_.submitted.resources().threads(), 3);
  EXPECT_EQ(jobs_.submitted.verification().state_hash(), "end");
  EXPECT_FALSE(jobs_.submitted.verification().has_checkpoint());
  EXPECT_FALSE(jobs_.reuse) << "an earlier job's hash proves nothing";
}

TEST_F(VerifyTest, WhatDiffersHasItsExitCode) {
  jobs_.state = v1::FAILED;
  jobs_.reason = "step 10 differs";
  EXPECT_EQ(Check(Cnn()), kRefused);
  EXPECT_THAT(output_, HasSubstr("not verified: step 10 differs\n"));
  jobs_.state = v1::SUCCEEDED;
  jobs_.state_hash = "another";
  EXPECT_EQ(Check(Cnn()), kRefused);
  EXPECT_EQ(Check(Cnn(), /*json=*/true), kRefused);
  EXPECT_THAT(output_, HasSubstr("\"outcome\":\"not verified\""));
}

TEST_F(VerifyTest, OtherDataIsSaidBeforeTheTraining) {
  jobs_.fingerprint = "g";
  EXPECT_EQ(Check(Cnn()), kOk);
  EXPECT_THAT(output_, HasSubstr("WARNING: its fingerprint is g, the receipt's f"));
}

TEST_F(VerifyTest, WithoutTheDataItIsRefused) {
  jobs_.no_data = true;
  EXPECT_EQ(Check(Cnn()), kRefused);
  EXPECT_EQ(errors_,
            "lockstep: verify cnn:1: data.train: there is no data set; this server needs what the "
            "receipt's spec names\n");
}

TEST_F(VerifyTest, GoesOnFromACheckpointThatTheJobStillKeeps) {
  VerifyArguments arguments = Cnn();
  arguments.from_checkpoint = true;
  EXPECT_EQ(Check(arguments), kOk) << errors_;
  EXPECT_EQ(jobs_.submitted.verification().checkpoint().step(), 15);
  arguments.checkpoint_step = 10;
  EXPECT_EQ(Check(arguments), kOk) << errors_;
  EXPECT_EQ(jobs_.submitted.verification().checkpoint().step(), 10);
  jobs_.submitted.Clear();
  arguments.checkpoint_step = 11;
  EXPECT_EQ(Check(arguments), kRefused);
  EXPECT_THAT(errors_, HasSubstr("it keeps those of step 20, 15, 10"));
  jobs_.forgotten = true;
  EXPECT_EQ(Check(arguments), kRefused);
  EXPECT_THAT(errors_, HasSubstr("only the server that trained the model has its checkpoints"));
  EXPECT_FALSE(jobs_.submitted.has_verification()) << "nothing was submitted";
}

TEST_F(VerifyTest, AReceiptsFileDoesAsWellAsAModel) {
  VerifyArguments arguments;
  arguments.receipt = directory_ / "receipt.json";
  ASSERT_EQ(Run([&](Session& s) { return ShowReceipt(s, "cnn", arguments.receipt); }, false), kOk);
  EXPECT_THAT(output_, HasSubstr("next: lockstep verify --receipt " + arguments.receipt));
  EXPECT_EQ(Check(arguments), kOk) << errors_;
  EXPECT_EQ(jobs_.submitted.verification().epochs_size(), 1);
  arguments.receipt += ".absent";
  EXPECT_EQ(Check(arguments), kUsage);
}

TEST_F(VerifyTest, ReceiptsArePrintedSoThatTheyCanBeRead) {
  for (const bool json : {false, true}) {
    ASSERT_EQ(Run([](Session& s) { return ShowReceipt(s, "cnn:1", ""); }, json), kOk);
    const auto receipt = ParseReceipt(output_);
    ASSERT_TRUE(receipt.ok()) << receipt.status();
    EXPECT_EQ(receipt->SerializeAsString(), models_.receipt.SerializeAsString());
  }
  EXPECT_EQ(Run([](Session& s) { return ShowReceipt(s, "absent", ""); }, false), kRefused);
  EXPECT_EQ(Run([](Session& s) { return ShowReceipt(s, "cnn:x", ""); }, false), kUsage);
}

TEST_F(VerifyTest, AnOlderServersReceiptIsRefusedBeforeAnythingRuns) {
  models_.receipt.clear_spec();
  EXPECT_EQ(Check(Cnn()), kRefused);
  EXPECT_THAT(errors_, HasSubstr("written by an older server"));
  EXPECT_FALSE(jobs_.submitted.has_verification());
}

}  // namespace
}  // namespace lockstep
