// Queue, priorities, pause, preemption, deletion: what clients ask and what operators set.

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class JobControlTest : public JobsTest {
 protected:
  v1::Job SubmitWith(const std::string& id, auto change) {
    v1::SubmitJobRequest request = Request(id);
    change(*request.mutable_spec());
    return Value(manager_->Submit(request));
  }
  std::string Refusal(auto change) {
    v1::SubmitJobRequest request = Request("refused");
    change(*request.mutable_spec());
    const absl::Status status = manager_->Submit(request).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  }
  std::vector<std::string> Ids(const v1::ListJobsResponse& response) {
    std::vector<std::string> ids;
    for (const v1::Job& job : response.jobs()) ids.push_back(job.id());
    return ids;
  }
};

TEST_F(JobControlTest, HigherPriorityGoesFirstThenAge) {
  Submit("old");
  Submit("young");
  SubmitWith("urgent", [](v1::JobSpec& spec) { spec.set_priority(5); });
  Submit("raised");
  EXPECT_EQ(Value(manager_->SetPriority("raised", 7)).priority(), 7);
  FakeWorker worker(manager_.get());
  for (const char* id : {"raised", "urgent", "old", "young"}) {
    ASSERT_EQ(worker.last().job_id(), id);
    worker.Fail(worker.last(), "next");
  }
  EXPECT_EQ(manager_->SetPriority("old", 1).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(manager_->SetPriority("old", 1001).status().message()),
              HasSubstr("priority: must be within [-1000, 1000], got 1001"));
}

TEST_F(JobControlTest, APriorityOutlivesTheServer) {
  Submit("a");
  Submit("b");
  ASSERT_TRUE(manager_->SetPriority("b", 1).ok());
  Start();
  FakeWorker worker(manager_.get());
  EXPECT_EQ(worker.last().job_id(), "b");
}

TEST_F(JobControlTest, JobsShareAMachineAsLongAsItHasCores) {
  v1::WorkerMessage hello = FakeWorker::Supervised();
  hello.mutable_hello()->set_threads(4);
  hello.mutable_hello()->set_cores(4);
  FakeWorker first(manager_.get(), hello);
  FakeWorker second(manager_.get(), hello);
  FakeWorker third(manager_.get(), hello);
  SubmitWith("three", [](v1::JobSpec& spec) { spec.mutable_resources()->set_threads(3); });
  Submit("rest");
  SubmitWith("two", [](v1::JobSpec& spec) { spec.mutable_resources()->set_threads(2); });
  EXPECT_EQ(first.last().assignment().threads(), 3);
  EXPECT_EQ(second.last().assignment().threads(), 1) << "what is left";
  EXPECT_FALSE(third.last().has_assignment());
  first.Fail(first.last(), "done");
  EXPECT_EQ(first.last().job_id(), "two");
  EXPECT_EQ(Job("two").worker().threads(), 2);
}

TEST_F(JobControlTest, AWorkerThatWasToldSoHasMoreThreadsThanItsMachineHasCores) {
  v1::WorkerMessage hello = FakeWorker::Supervised();
  hello.mutable_hello()->set_threads(8);
  hello.mutable_hello()->set_cores(2);
  FakeWorker worker(manager_.get(), hello);
  SubmitWith("a", [](v1::JobSpec& spec) { spec.mutable_resources()->set_threads(5); });
  EXPECT_EQ(worker.last().assignment().threads(), 5);
}

TEST_F(JobControlTest, APausedJobSavesItselfAndGoesOnWhereItWas) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  worker.ReportStep(assigned, 1, 0.5);
  EXPECT_EQ(Value(manager_->Pause("a")).state(), v1::PAUSED);
  EXPECT_TRUE(worker.last().has_yield());
  worker.ReportStep(assigned, 2, 0.4);  // it was on its way
  const v1::Blob blob = AddBlob("checkpoint of step 2");
  worker.ReportCheckpoint(assigned, 2, blob);

  EXPECT_EQ(Value(manager_->Resume("a")).state(), v1::QUEUED);
  EXPECT_EQ(worker.received().size(), 2u) << "its worker has not stopped yet";
  worker.ConfirmYielded(assigned);
  EXPECT_EQ(worker.last().attempt(), 2);
  ASSERT_EQ(worker.last().assignment().checkpoints_size(), 1);
  EXPECT_EQ(worker.last().assignment().checkpoints(0).blob().sha256(), blob.sha256());
  EXPECT_EQ(Job("a").progress().step(), 2);
  EXPECT_THAT(States("a"),
              ElementsAre(v1::QUEUED, v1::RUNNING, v1::PAUSED, v1::QUEUED, v1::RUNNING));
  EXPECT_EQ(manager_->Resume("a").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(JobControlTest, APausedJobStaysPausedWhateverDies) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    ASSERT_TRUE(manager_->Pause("a").ok());
    worker.Leave("killed while it saved");
    EXPECT_EQ(Job("a").state(), v1::PAUSED);
  }
  Start();
  FakeWorker worker(manager_.get());
  EXPECT_EQ(Job("a").state(), v1::PAUSED);
  EXPECT_FALSE(worker.last().has_assignment());
  ASSERT_TRUE(manager_->Resume("a").ok());
  EXPECT_EQ(worker.last().attempt(), 2);
}

TEST_F(JobControlTest, WhatEndsBeforeThePauseReachesItHasEnded) {
  Submit("a");
  FakeWorker worker(manager_.get());
  ASSERT_TRUE(manager_->Pause("a").ok());
  worker.Succeed(worker.received()[0], AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
}

TEST_F(JobControlTest, AQueuedJobCanBePaused) {
  Submit("a");
  ASSERT_TRUE(manager_->Pause("a").ok());
  FakeWorker worker(manager_.get());
  EXPECT_FALSE(worker.last().has_assignment());
  ASSERT_TRUE(manager_->Cancel("a").ok());
  EXPECT_EQ(Job("a").state(), v1::CANCELLED);
}

TEST_F(JobControlTest, PreemptionTakesTheLowestPriorityOnlyIfAskedFor) {
  SubmitWith("low", [](v1::JobSpec& spec) { spec.set_priority(-1); });
  Submit("middle");
  FakeWorker second(manager_.get());
  FakeWorker first(manager_.get());
  const v1::ServerMessage low = first.last();
  SubmitWith("patient", [](v1::JobSpec& spec) { spec.set_priority(9); });
  EXPECT_EQ(Job("low").state(), v1::RUNNING);

  SubmitWith("urgent", [](v1::JobSpec& spec) {
    spec.set_priority(10);
    spec.mutable_resources()->set_preempt(true);
  });
  EXPECT_TRUE(first.last().has_yield());
  EXPECT_FALSE(second.last().has_yield()) << "one place is enough";
  EXPECT_EQ(Job("low").state(), v1::QUEUED);
  EXPECT_THAT(Job("low").state_reason(), HasSubstr("preempted by job urgent"));
  first.ReportCheckpoint(low, 2, AddBlob("low at 2"));
  first.ConfirmYielded(low);
  EXPECT_EQ(first.last().job_id(), "urgent");
  second.Fail(second.last(), "done");
  EXPECT_EQ(second.last().job_id(), "patient");
  second.Fail(second.last(), "done");
  EXPECT_EQ(second.last().job_id(), "low");
  EXPECT_EQ(second.last().assignment().checkpoints(0).step(), 2);
}

TEST_F(JobControlTest, OnlyEndedJobsAreDeletedAndTheirModelsStay) {
  Submit("a");
  EXPECT_EQ(manager_->Delete("a").code(), absl::StatusCode::kFailedPrecondition);
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  const v1::Blob checkpoint = AddBlob("checkpoint");
  worker.ReportCheckpoint(assigned, 1, checkpoint);
  worker.Succeed(assigned, AddBlob("weights"));
  ASSERT_TRUE(manager_->Delete("a").ok());
  EXPECT_EQ(manager_->Get("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager_->Delete("a").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(HasBlob(checkpoint));
  EXPECT_TRUE(HasBlob(AddBlob("weights")));
  EXPECT_EQ(Value(store_->GetModel("a", 1)).receipt().job_id(), "a");
  // Another of that name has a log of its own.
  Submit("a");
  EXPECT_THAT(States("a"), ElementsAre(v1::QUEUED, v1::RUNNING));
}

TEST_F(JobControlTest, OldJobsAreDeletedByThePolicy) {
  keep_jobs_ = 2;
  Start();
  FakeWorker worker(manager_.get());
  for (const char* id : {"a", "b", "c"}) {
    Submit(id);
    worker.Fail(worker.last(), "done");
  }
  Submit("running");
  Advance(std::chrono::seconds(1));
  std::vector<std::string> ids;
  for (const v1::Job& job : AllJobs()) ids.push_back(job.id());
  EXPECT_THAT(ids, ElementsAre("running", "c", "b"));
}

TEST_F(JobControlTest, ListsArePagedAndFiltered) {
  for (int i = 0; i < 5; ++i) {
    SubmitWith("job" + std::to_string(i), [&](v1::JobSpec& spec) {
      (*spec.mutable_labels())["team"] = i % 2 == 0 ? "even" : "odd";
    });
  }
  ASSERT_TRUE(manager_->Cancel("job2").ok());
  v1::ListJobsRequest request;
  request.set_page_size(2);
  v1::ListJobsResponse page = Value(manager_->List(request));
  EXPECT_THAT(Ids(page), ElementsAre("job4", "job3"));
  Submit("meanwhile");
  request.set_page_token(page.next_page_token());
  page = Value(manager_->List(request));
  EXPECT_THAT(Ids(page), ElementsAre("job2", "job1"));
  request.set_page_token(page.next_page_token());
  page = Value(manager_->List(request));
  EXPECT_THAT(Ids(page), ElementsAre("job0"));
  EXPECT_EQ(page.next_page_token(), "");

  v1::ListJobsRequest even;
  (*even.mutable_labels())["team"] = "even";
  even.add_states(v1::QUEUED);
  EXPECT_THAT(Ids(Value(manager_->List(even))), ElementsAre("job4", "job0"));

  // A token belongs to its listing.
  for (const std::string& token : {request.page_token(), std::string("3-0123456789abcdef"),
                                   std::string("x"), std::string("-"), std::string("\0", 1)}) {
    even.set_page_token(token);
    const absl::Status status = manager_->List(even).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << token;
    EXPECT_THAT(std::string(status.message()), HasSubstr("page_token"));
  }
  request.set_page_token("");
  request.set_page_size(1001);
  EXPECT_THAT(std::string(manager_->List(request).status().message()),
              HasSubstr("page_size: must be within [0, 1000], got 1001"));
}

TEST_F(JobControlTest, AnIdenticalJobIsAnsweredByOneThatSucceeded) {
  v1::SubmitJobRequest request = Request("first");
  request.set_reuse(true);
  EXPECT_EQ(Value(manager_->Submit(request)).id(), "first") << "there is none yet";
  FakeWorker worker(manager_.get());
  request.set_id("second");
  EXPECT_EQ(Value(manager_->Submit(request)).id(), "second") << "one that runs does not count";
  worker.Succeed(worker.last(), AddBlob("weights"));
  request.set_id("third");
  request.mutable_spec()->mutable_resources()->set_threads(7);
  EXPECT_EQ(Value(manager_->Submit(request)).id(), "first");
  request.mutable_spec()->set_publish_as("elsewhere");
  EXPECT_EQ(Value(manager_->Submit(request)).id(), "third");
  request.mutable_spec()->clear_publish_as();
  request.mutable_spec()->mutable_training()->set_seed(1);
  request.set_id("fourth");
  EXPECT_EQ(Value(manager_->Submit(request)).id(), "fourth");
}

TEST_F(JobControlTest, LimitsAndLabelsAreCheckedByField) {
  EXPECT_THAT(Refusal([](auto& s) { s.set_priority(-1001); }), HasSubstr("priority: must be"));
  EXPECT_THAT(Refusal([](auto& s) { (*s.mutable_labels())["a b"] = "c"; }), HasSubstr("labels"));
  EXPECT_THAT(Refusal([](auto& s) { (*s.mutable_labels())["a"] = std::string(256, 'x'); }),
              HasSubstr("labels[\"a\"]: at most 255 bytes, got 256"));
  EXPECT_THAT(Refusal([](auto& s) {
                for (int i = 0; i < 65; ++i) (*s.mutable_labels())[std::to_string(i)] = "";
              }),
              HasSubstr("labels: at most 64, got 65"));
  EXPECT_THAT(Refusal([](auto& s) { s.mutable_resources()->set_max_seconds(-1); }),
              HasSubstr("resources.max_seconds: must be >= 0, got -1"));
  EXPECT_THAT(Refusal([](auto& s) { s.mutable_resources()->set_max_memory_bytes(1); }),
              HasSubstr("resources.max_memory_bytes: the job needs about"));
  EXPECT_THAT(Refusal([](auto& s) { s.mutable_checkpoints()->set_keep_last(101); }),
              HasSubstr("checkpoints.keep_last: must be within [0, 100], got 101"));
  EXPECT_THAT(Refusal([](auto& s) { s.mutable_checkpoints()->set_keep_best("val_loss"); }),
              HasSubstr("there are no validation data"));
  EXPECT_THAT(Refusal([](auto& s) { s.mutable_verification()->set_steps(3); }),
              HasSubstr("verification: needs steps and state_hash"));
}

TEST_F(JobControlTest, TimeThatAJobHasRunCountsOverAllItsAttempts) {
  SubmitWith("a", [](v1::JobSpec& spec) { spec.mutable_resources()->set_max_seconds(60); });
  for (const double left : {60.0, 45.0, 30.0}) {
    FakeWorker worker(manager_.get());
    ASSERT_TRUE(worker.last().has_assignment());
    EXPECT_DOUBLE_EQ(worker.last().assignment().seconds_left(), left);
    now_ += std::chrono::seconds(15);
    ASSERT_TRUE(manager_->Pause("a").ok());
    worker.ConfirmYielded(worker.received()[0]);
    worker.Leave("the next one takes it");
    Advance(std::chrono::hours(1));  // does not count
    ASSERT_TRUE(manager_->Resume("a").ok());
  }
  EXPECT_DOUBLE_EQ(Job("a").run_seconds(), 45.0);
}

}  // namespace
}  // namespace lockstep
