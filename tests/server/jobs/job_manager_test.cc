#include "server/jobs/job_manager.h"

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class JobManagerTest : public JobsTest {};

absl::StatusCode Code(const absl::Status& status) { return status.code(); }

TEST_F(JobManagerTest, AJobIsQueuedThenRunsThenSucceedsAndIsPublished) {
  EXPECT_EQ(Submit("a").state(), v1::QUEUED);
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  ASSERT_TRUE(assigned.has_assignment());
  EXPECT_EQ(assigned.job_id(), "a");
  EXPECT_EQ(assigned.attempt(), 1);
  EXPECT_EQ(assigned.assignment().train().name(), "tiny");
  worker.ReportStep(assigned, 1, 0.5);
  EXPECT_EQ(Job("a").progress().step(), 1);
  EXPECT_EQ(Job("a").progress().metrics(0).value(), 0.5);

  const v1::Blob weights = AddBlob("weights");
  worker.Succeed(assigned, weights);
  const v1::Job job = Job("a");
  EXPECT_EQ(job.state(), v1::SUCCEEDED);
  EXPECT_EQ(job.state_hash(), "abc");
  EXPECT_EQ(job.published().name(), "a");
  EXPECT_EQ(job.published().version(), 1);
  const v1::ModelVersion model = Value(store_->GetModel("a", 0));
  EXPECT_EQ(model.weights().sha256(), weights.sha256());
  EXPECT_EQ(model.receipt().job_id(), "a");
  EXPECT_EQ(model.receipt().fingerprint(), job.fingerprint());
  EXPECT_EQ(model.receipt().train_digest(), Value(store_->GetDataset("tiny")).digest());
  EXPECT_THAT(States("a"), ElementsAre(v1::QUEUED, v1::RUNNING, v1::SUCCEEDED));
}

TEST_F(JobManagerTest, TheSameIdWithTheSameSpecIsTheSameJob) {
  const v1::Job first = Submit("a");
  EXPECT_EQ(Submit("a").create_time().nanos(), first.create_time().nanos());
  EXPECT_EQ(AllJobs().size(), 1u);

  v1::SubmitJobRequest other = Request("a");
  other.mutable_spec()->mutable_training()->set_epochs(3);
  EXPECT_EQ(Code(manager_->Submit(other).status()), absl::StatusCode::kAlreadyExists);

  // Also after it has ended.
  EXPECT_TRUE(manager_->Cancel("a").ok());
  EXPECT_EQ(Submit("a").state(), v1::CANCELLED);
  EXPECT_EQ(Code(manager_->Submit(other).status()), absl::StatusCode::kAlreadyExists);
}

TEST_F(JobManagerTest, ATraceGoesWithTheJobToEveryWorkerAndIntoEveryServersLife) {
  EXPECT_EQ(Value(manager_->Submit(Request("a"), "trace-a")).trace_id(), "trace-a");
  EXPECT_EQ(Value(manager_->Submit(Request("a"), "trace-b")).trace_id(), "trace-a")
      << "whoever asks again belongs to another trace than the job";
  Start();
  EXPECT_EQ(Job("a").trace_id(), "trace-a");
  FakeWorker first(manager_.get());
  EXPECT_EQ(first.last().assignment().trace_id(), "trace-a");
  ASSERT_TRUE(manager_->Pause("a").ok());
  first.ConfirmYielded(first.last());
  ASSERT_TRUE(manager_->Resume("a").ok());
  EXPECT_TRUE(first.last().has_assignment());
  EXPECT_EQ(first.last().assignment().trace_id(), "trace-a");
  first.Fail(first.last(), "no luck");
  Submit("b");
  EXPECT_EQ(first.last().assignment().trace_id(), "") << "nothing of the job before";
}

TEST_F(JobManagerTest, InitialWeightsAreStoredAsTheExactContent) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::Blob weights = AddBlob("weights");
  worker.Succeed(worker.last(), weights);

  v1::SubmitJobRequest request = Request("b");
  request.mutable_spec()->mutable_initial_weights()->mutable_model()->set_name("a");
  const v1::Job job = Value(manager_->Submit(request));
  EXPECT_EQ(job.spec().initial_weights().safetensors().sha256(), weights.sha256());
  EXPECT_NE(job.fingerprint(), Job("a").fingerprint());
  EXPECT_EQ(worker.last().assignment().spec().initial_weights().safetensors().sha256(),
            weights.sha256());

  // The model's spec may be left out, and another task be asked for.
  request.set_id("c");
  request.mutable_spec()->clear_model();
  request.mutable_spec()->clear_training();
  request.mutable_spec()->mutable_population_statistics();
  EXPECT_THAT(std::string(manager_->Submit(request).status().message()),
              HasSubstr("there is no batch_normalization"));
}

TEST_F(JobManagerTest, InitialWeightsThatAreNotThereAreRefused) {
  const auto refusal = [&](auto change) {
    v1::SubmitJobRequest request = Request("a");
    change(*request.mutable_spec()->mutable_initial_weights());
    const absl::Status status = manager_->Submit(request).status();
    EXPECT_EQ(Code(status), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(refusal([](v1::InitialWeights&) {}),
            "initial_weights: must name a model or an uploaded safetensors file");
  EXPECT_THAT(refusal([](v1::InitialWeights& w) { w.mutable_model()->set_name("nobody"); }),
              HasSubstr("initial_weights.model: "));
  EXPECT_THAT(refusal([](v1::InitialWeights& w) {
                w.mutable_safetensors()->set_sha256(Sha256("absent"));
                w.mutable_safetensors()->set_size_bytes(6);
              }),
              HasSubstr("initial_weights.safetensors: has not been uploaded"));
  EXPECT_THAT(refusal([this](v1::InitialWeights& w) {
                *w.mutable_safetensors() = AddBlob("weights");
                w.set_naming("onnx");
              }),
              HasSubstr("initial_weights.naming: must be lockstep, keras or pytorch"));
}

TEST_F(JobManagerTest, BadRequestsNameTheField) {
  for (const std::string& id : std::vector<std::string>{"..", "a/b", std::string(65, 'a'), "\n"}) {
    const absl::Status status = manager_->Submit(Request(id)).status();
    EXPECT_EQ(Code(status), absl::StatusCode::kInvalidArgument) << id;
    EXPECT_THAT(std::string(status.message()), HasSubstr("id"));
  }
  v1::SubmitJobRequest request = Request("a");
  request.mutable_spec()->set_publish_as("a/b");
  EXPECT_THAT(std::string(manager_->Submit(request).status().message()), HasSubstr("publish_as"));
  request = Request("a");
  request.mutable_spec()->mutable_data()->mutable_train()->set_dataset("nothing");
  EXPECT_THAT(std::string(manager_->Submit(request).status().message()),
              HasSubstr("data.train.dataset: there is no data set \"nothing\""));
  EXPECT_TRUE(AllJobs().empty());
}

TEST_F(JobManagerTest, UnknownJobsAreNotFound) {
  EXPECT_EQ(Code(manager_->Get("x").status()), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(manager_->Cancel("x").status()), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(manager_->Log("x").status()), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code(manager_->Log("../..").status()), absl::StatusCode::kNotFound);
  absl::Status weights;
  manager_->Weights("x", [&](absl::StatusOr<v1::Weights> w) { weights = w.status(); });
  EXPECT_EQ(Code(weights), absl::StatusCode::kNotFound);
}

TEST_F(JobManagerTest, OldestJobFirst) {
  Submit("a");
  Submit("b");
  FakeWorker worker(manager_.get());
  EXPECT_EQ(worker.last().job_id(), "a");
  worker.Fail(worker.last(), "no luck");
  EXPECT_EQ(worker.last().job_id(), "b");
  EXPECT_EQ(Job("a").state(), v1::FAILED);
  EXPECT_EQ(Job("a").state_reason(), "no luck");
  EXPECT_EQ(Job("a").attempt(), 1) << "a job's own fault is not tried again";
}

TEST_F(JobManagerTest, CancelEndsAJobAtOnceAndFreesItsWorkerLater) {
  Submit("a");
  Submit("b");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  EXPECT_EQ(Value(manager_->Cancel("a")).state(), v1::CANCELLED);
  EXPECT_TRUE(worker.last().has_cancel());
  EXPECT_EQ(worker.last().attempt(), 1);
  EXPECT_EQ(Job("b").state(), v1::QUEUED) << "the worker is still at it";

  // What it says until then changes nothing.
  worker.ReportStep(assigned, 1, 0.5);
  EXPECT_THAT(States("a"), ElementsAre(v1::QUEUED, v1::RUNNING, v1::CANCELLED));
  EXPECT_TRUE(Events("a").back().has_state());
  worker.ConfirmCancelled(assigned);
  EXPECT_EQ(Job("b").state(), v1::RUNNING);

  const absl::Status again = manager_->Cancel("a").status();
  EXPECT_EQ(Code(again), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.message()), HasSubstr("CANCELLED"));
}

TEST_F(JobManagerTest, ASuccessThatComesAfterTheCancellationIsNotPublished) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  ASSERT_TRUE(manager_->Cancel("a").ok());
  worker.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::CANCELLED);
  EXPECT_FALSE(store_->GetModel("a", 0).ok());
}

TEST_F(JobManagerTest, ALostWorkersJobRunsAgainAsTheNextAttempt) {
  Submit("a");
  auto first = std::make_unique<FakeWorker>(manager_.get());
  const v1::ServerMessage old = first->last();
  first->ReportStep(old, 1, 0.5);
  first->Leave("killed");
  EXPECT_EQ(Job("a").state(), v1::QUEUED);
  EXPECT_THAT(Job("a").state_reason(), HasSubstr("killed"));
  EXPECT_THAT(Events("a").back().text().text(), HasSubstr("killed"));

  FakeWorker second(manager_.get());
  EXPECT_EQ(second.last().attempt(), 2);
  EXPECT_EQ(Value(store_->GetJob("a")).attempt(), 2) << "durable before the worker knows";

  // Nobody but the current attempt is heard.
  second.ReportStep(old, 2, 9.0);
  second.Succeed(old, AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::RUNNING);
  EXPECT_EQ(Job("a").progress().step(), 0);

  second.ReportStep(second.last(), 1, 0.5);  // the same step once more
  int steps = 0;
  for (const v1::Event& event : Events("a")) steps += event.has_step();
  EXPECT_EQ(steps, 1) << "a step is logged once, whoever did it";
  second.Succeed(second.last(), AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
}

TEST_F(JobManagerTest, AJobThatTakesItsWorkersDownIsGivenUp) {
  Submit("a");
  for (int attempt = 1; attempt <= 8; ++attempt) {
    ASSERT_EQ(Job("a").state(), v1::QUEUED);
    FakeWorker worker(manager_.get());
    if (attempt > 2) {
      ASSERT_FALSE(worker.last().has_assignment()) << "it waits before it tries again";
      Advance(std::chrono::minutes(1));
    }
    ASSERT_EQ(worker.last().attempt(), attempt);
    worker.Leave("crashed");
  }
  EXPECT_EQ(Job("a").state(), v1::FAILED);
  EXPECT_THAT(Job("a").state_reason(), HasSubstr("crashed"));
}

TEST_F(JobManagerTest, AJobThatGetsFurtherEachTimeIsNotGivenUp) {
  Submit("a");
  for (int attempt = 1; attempt <= 30; ++attempt) {
    FakeWorker worker(manager_.get());
    ASSERT_EQ(worker.last().attempt(), attempt);
    worker.ReportStep(worker.last(), attempt, 0.5);
    worker.Leave("killed");
  }
  EXPECT_EQ(Job("a").state(), v1::QUEUED);
}

TEST_F(JobManagerTest, ARunThatDiffersFromTheOneBeforeFailsLoudly) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportStep(worker.last(), 1, 0.5);
  }
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  worker.ReportStep(assigned, 1, 0.25);
  EXPECT_EQ(Job("a").state(), v1::FAILED);
  EXPECT_THAT(Job("a").state_reason(), HasSubstr("DATA_LOSS"));
  EXPECT_TRUE(worker.last().has_cancel());
}

TEST_F(JobManagerTest, SuccessWithoutWeightsIsAFailure) {
  Submit("a");
  FakeWorker worker(manager_.get());
  v1::Blob missing;
  missing.set_sha256(std::string(64, '0'));
  missing.set_size_bytes(3);
  worker.Succeed(worker.last(), missing);
  EXPECT_EQ(Job("a").state(), v1::FAILED);
}

TEST_F(JobManagerTest, AfterARestartRunningJobsAreQueuedAgainAndEndedOnesStay) {
  Submit("done");
  Submit("running");
  Submit("waiting");
  {
    FakeWorker worker(manager_.get());
    worker.Succeed(worker.last(), AddBlob("weights"));
    ASSERT_EQ(worker.last().job_id(), "running");
    manager_->Stop();  // leaves the store as a crash would
  }
  ASSERT_EQ(Value(store_->GetJob("running")).state(), v1::RUNNING);
  Start();
  EXPECT_EQ(Job("done").state(), v1::SUCCEEDED);
  EXPECT_EQ(Job("running").state(), v1::QUEUED);
  EXPECT_THAT(Job("running").state_reason(), HasSubstr("restarted"));
  EXPECT_THAT(States("running"), ElementsAre(v1::QUEUED, v1::RUNNING, v1::QUEUED));
  FakeWorker worker(manager_.get());
  EXPECT_EQ(worker.last().job_id(), "running") << "it keeps its place";
  EXPECT_EQ(worker.last().attempt(), 2);
}

// A crash between the store's write and the log's: the log is made to follow.
TEST_F(JobManagerTest, TheLogFollowsTheStore) {
  Submit("a");
  Submit("b");
  manager_.reset();
  v1::Job job = Value(store_->GetJob("a"));
  job.set_state(v1::CANCELLED);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  job = Value(store_->GetJob("b"));
  job.set_state(v1::RUNNING);
  job.set_attempt(1);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  Start();
  Advance(kGrace);
  EXPECT_THAT(States("a"), ElementsAre(v1::QUEUED, v1::CANCELLED));
  EXPECT_TRUE(Value(Value(manager_->Log("a"))->Read(1, 100)).end);
  EXPECT_THAT(States("b"), ElementsAre(v1::QUEUED, v1::RUNNING, v1::QUEUED));
}

// --- weights ---

class WeightsTest : public JobManagerTest {
 protected:
  // Collects what Weights() answers.
  void Ask(const std::string& id) {
    manager_->Weights(id, [this](absl::StatusOr<v1::Weights> weights) {
      answers_.push_back(std::move(weights));
    });
  }
  void SendSnapshot(FakeWorker& worker, const v1::Blob& blob, int64_t step) {
    const v1::ServerMessage request = worker.last();
    ASSERT_TRUE(request.has_snapshot_request());
    v1::WorkerMessage message;
    message.mutable_snapshot()->set_request_id(request.snapshot_request().request_id());
    message.mutable_snapshot()->set_step(step);
    if (!blob.sha256().empty()) *message.mutable_snapshot()->mutable_weights() = blob;
    ASSERT_TRUE(worker.Handle(request, std::move(message)).ok());
  }
  std::vector<absl::StatusOr<v1::Weights>> answers_;
};

TEST_F(WeightsTest, OfARunningJobComeFromItsWorker) {
  Submit("a");
  Ask("a");
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(Code(answers_[0].status()), absl::StatusCode::kUnavailable);
  FakeWorker worker(manager_.get());
  Ask("a");
  Ask("a");  // shares the answer
  EXPECT_EQ(worker.received().size(), 2u);
  EXPECT_EQ(answers_.size(), 1u);
  const v1::Blob first = AddBlob("step 3");
  SendSnapshot(worker, first, 3);
  ASSERT_EQ(answers_.size(), 3u);
  EXPECT_EQ(Value(answers_[1]).step(), 3);
  EXPECT_EQ(Value(answers_[2]).blob().sha256(), first.sha256());
  EXPECT_TRUE(HasBlob(first));

  Ask("a");
  const v1::Blob second = AddBlob("step 4");
  SendSnapshot(worker, second, 4);
  EXPECT_FALSE(HasBlob(first)) << "only the newest is kept";
  EXPECT_TRUE(HasBlob(second));
  worker.Succeed(worker.received()[0], AddBlob("weights"));
  EXPECT_FALSE(HasBlob(second));
  Ask("a");
  EXPECT_EQ(Value(answers_.back()).blob().sha256(), Sha256("weights"));
  EXPECT_EQ(Value(answers_.back()).step(), 4);
}

TEST_F(WeightsTest, ASnapshotOfTheLastStepIsNotTakenFromTheModel) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  Ask("a");
  const v1::Blob weights = AddBlob("weights");
  SendSnapshot(worker, weights, 4);
  worker.Succeed(assigned, weights);
  EXPECT_TRUE(HasBlob(weights));
}

TEST_F(WeightsTest, NobodyWaitsForAnAnswerThatCannotCome) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    Ask("a");
    SendSnapshot(worker, {}, 0);
    ASSERT_EQ(answers_.size(), 1u);
    EXPECT_EQ(Code(answers_[0].status()), absl::StatusCode::kUnavailable) << "no step yet";
    Ask("a");
  }  // gone
  ASSERT_EQ(answers_.size(), 2u);
  EXPECT_EQ(Code(answers_[1].status()), absl::StatusCode::kUnavailable);

  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  Ask("a");
  worker.Succeed(assigned, AddBlob("weights"));  // crossed with the request
  ASSERT_EQ(answers_.size(), 3u);
  EXPECT_EQ(Value(answers_[2]).blob().sha256(), Sha256("weights"));

  Submit("b");
  Ask("b");
  ASSERT_TRUE(manager_->Cancel("b").ok());
  ASSERT_EQ(answers_.size(), 4u);
  EXPECT_FALSE(answers_[3].ok());
  Ask("b");
  EXPECT_EQ(Code(answers_.back().status()), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace lockstep
