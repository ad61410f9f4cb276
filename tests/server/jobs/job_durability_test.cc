// What survives: checkpoints, attempts that come back, events that could not be written at once,
// receipts that are trained again.

#include <fcntl.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class JobDurabilityTest : public JobsTest {
 protected:
  // Steps of the checkpoints that an assignment has.
  static std::vector<int64_t> Steps(const v1::ServerMessage& assigned) {
    std::vector<int64_t> steps;
    for (const v1::Checkpoint& c : assigned.assignment().checkpoints()) steps.push_back(c.step());
    return steps;
  }
  v1::WorkerMessage Back(const v1::ServerMessage& assigned, int64_t pid) {
    v1::WorkerMessage hello = FakeWorker::Remote(pid);
    hello.set_job_id(assigned.job_id());
    hello.set_attempt(assigned.attempt());
    return hello;
  }
};

TEST_F(JobDurabilityTest, TheNextAttemptGetsTheNewestCheckpointsAlsoAfterARestart) {
  Submit("a");
  const v1::Blob first = AddBlob("step 1");
  const v1::Blob third = AddBlob("step 3");
  {
    FakeWorker worker(manager_.get());
    worker.ReportCheckpoint(worker.last(), 1, first);
    worker.ReportStep(worker.last(), 2, 0.5);
    worker.ReportCheckpoint(worker.last(), 2, AddBlob("step 2"));
    worker.ReportCheckpoint(worker.last(), 3, third);
    EXPECT_FALSE(HasBlob(first)) << "two are kept";
    manager_->Stop();
  }
  Start();
  FakeWorker worker(manager_.get());
  EXPECT_THAT(Steps(worker.last()), ElementsAre(3, 2));
  EXPECT_EQ(worker.last().assignment().checkpoints(0).blob().sha256(), third.sha256());
  EXPECT_EQ(Job("a").progress().step(), 3);
  ASSERT_EQ(Job("a").checkpoints_size(), 2);

  // The same step saved again, as other bytes, takes the place of the old.
  const v1::Blob again = AddBlob("step 3 again");
  worker.ReportCheckpoint(worker.last(), 3, again);
  EXPECT_FALSE(HasBlob(third));
  worker.Leave("killed");
  FakeWorker next(manager_.get());
  EXPECT_THAT(Steps(next.last()), ElementsAre(3, 2));
  EXPECT_EQ(next.last().assignment().checkpoints(0).blob().sha256(), again.sha256());
}

TEST_F(JobDurabilityTest, TheBestCheckpointIsKeptBesideTheLast) {
  v1::SubmitJobRequest request = Request("a");
  request.mutable_spec()->mutable_checkpoints()->set_keep_best("loss");
  request.mutable_spec()->mutable_checkpoints()->set_keep_last(1);
  ASSERT_TRUE(manager_->Submit(request).ok());
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  const double losses[] = {0.9, 0.2, 0.5, 0.4};
  for (int epoch = 1; epoch <= 4; ++epoch) {
    worker.ReportEpoch(assigned, epoch, 2 * epoch, "hash", losses[epoch - 1]);
    worker.ReportCheckpoint(assigned, 2 * epoch, AddBlob("epoch " + std::to_string(epoch)));
  }
  worker.ReportCheckpoint(assigned, 9, AddBlob("in the middle of an epoch"));
  worker.Leave("killed");
  FakeWorker next(manager_.get());
  EXPECT_THAT(Steps(next.last()), ElementsAre(9, 4));
}

TEST_F(JobDurabilityTest, ACheckpointCountsOnlyWithItsEvents) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportCheckpoint(worker.last(), 1, AddBlob("step 1"));
    for (int step = 2; step <= 5; ++step) worker.ReportStep(worker.last(), step, 0.5);
    worker.ReportCheckpoint(worker.last(), 5, AddBlob("step 5"));
    manager_->Stop();
  }
  // A disk that lost the end of the log.
  const std::string path = directory_ / "runs/a/events.log";
  const int64_t size = Value(Value(File::Open(path, O_RDWR)).Size());
  ASSERT_TRUE(Value(File::Open(path, O_RDWR)).Truncate(size / 2).ok());
  Start();
  FakeWorker worker(manager_.get());
  EXPECT_THAT(Steps(worker.last()), ElementsAre(1)) << "its steps 2 to 5 would be missing";
}

TEST_F(JobDurabilityTest, AWorkerThatOutlivesTheServerGoesOn) {
  Submit("a");
  v1::ServerMessage assigned;
  {
    FakeWorker worker(manager_.get(), FakeWorker::Remote(1));
    assigned = worker.last();
    worker.ReportStep(assigned, 1, 0.5);
    manager_->Stop();
  }
  Start();
  EXPECT_EQ(Job("a").state(), v1::RUNNING) << "its worker may be back";
  EXPECT_EQ(Job("a").progress().step(), 1);
  FakeWorker other(manager_.get());
  EXPECT_FALSE(other.last().has_assignment());

  FakeWorker worker(manager_.get(), Back(assigned, 1));
  EXPECT_TRUE(worker.received().empty()) << "nothing to be said";
  worker.ReportStep(assigned, 1, 0.5);  // not acknowledged before: sent again
  worker.ReportStep(assigned, 2, 0.4);
  Advance(kGrace);
  worker.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
  EXPECT_EQ(Job("a").attempt(), 1);
  EXPECT_THAT(States("a"), ElementsAre(v1::QUEUED, v1::RUNNING, v1::SUCCEEDED));
  int steps = 0;
  for (const v1::Event& event : Events("a")) steps += event.has_step();
  EXPECT_EQ(steps, 2);
}

TEST_F(JobDurabilityTest, AfterTheGraceAnAttemptThatComesBackIsRefused) {
  Submit("a");
  v1::ServerMessage assigned;
  {
    FakeWorker worker(manager_.get(), FakeWorker::Remote(1));
    assigned = worker.last();
  }
  EXPECT_EQ(Job("a").state(), v1::RUNNING) << "it may have lost us for a moment";
  Advance(kGrace - std::chrono::seconds(1));
  EXPECT_EQ(Job("a").state(), v1::RUNNING);
  Advance(std::chrono::seconds(1));
  EXPECT_EQ(Job("a").state(), v1::QUEUED);

  FakeWorker late(manager_.get(), Back(assigned, 1));
  ASSERT_TRUE(late.last().has_cancel());
  EXPECT_EQ(late.last().attempt(), 1);
  late.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::RUNNING) << "free again, it gets the next attempt";
  EXPECT_EQ(late.last().attempt(), 2);
  EXPECT_FALSE(store_->GetModel("a", 0).ok());
}

TEST_F(JobDurabilityTest, AStrangerDoesNotGetAnothersAttempt) {
  Submit("a");
  FakeWorker worker(manager_.get(), FakeWorker::Remote(1));
  FakeWorker stranger(manager_.get(), Back(worker.last(), 2));
  EXPECT_TRUE(stranger.last().has_cancel());
  worker.Succeed(worker.last(), AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
}

TEST_F(JobDurabilityTest, AWorkersNewStreamTakesOverFromItsOldOne) {
  Submit("a");
  FakeWorker old(manager_.get(), FakeWorker::Remote(1));
  const v1::ServerMessage assigned = old.last();
  FakeWorker worker(manager_.get(), Back(assigned, 1));
  old.Leave("only now");
  Advance(kGrace);
  EXPECT_EQ(Job("a").attempt(), 1);
  worker.Succeed(assigned, AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
}

TEST_F(JobDurabilityTest, AJobPausedInItsWorkersAbsenceIsSavedWhenItIsBack) {
  Submit("a");
  v1::ServerMessage assigned;
  {
    FakeWorker worker(manager_.get(), FakeWorker::Remote(1));
    assigned = worker.last();
  }
  ASSERT_TRUE(manager_->Pause("a").ok());
  FakeWorker worker(manager_.get(), Back(assigned, 1));
  EXPECT_TRUE(worker.last().has_yield());
  worker.ReportCheckpoint(assigned, 3, AddBlob("step 3"));
  worker.ConfirmYielded(assigned);
  ASSERT_TRUE(manager_->Resume("a").ok());
  EXPECT_THAT(Steps(worker.last()), ElementsAre(3));
}

TEST_F(JobDurabilityTest, TimeUntilACheckpointCountsEvenIfTheServerIsKilled) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportCheckpoint(worker.last(), 1, AddBlob("step 1"));
    manager_->Stop();
  }
  v1::Job job = Value(store_->GetJob("a"));
  job.mutable_start_time()->set_seconds(job.start_time().seconds() - 100);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  Start();
  EXPECT_NEAR(Job("a").run_seconds(), 100.0, 5.0);
  // A clock that was set back takes nothing away.
  manager_->Stop();
  job = Value(store_->GetJob("a"));
  job.set_state(v1::RUNNING);
  job.mutable_start_time()->set_seconds(job.start_time().seconds() + 100'000);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  Start();
  EXPECT_NEAR(Job("a").run_seconds(), 100.0, 5.0);
}

TEST_F(JobDurabilityTest, BlobsThatACrashLeftAreDroppedAndNoOthers) {
  Submit("a");
  v1::Blob named = AddBlob("step 1");
  {
    FakeWorker worker(manager_.get());
    worker.ReportCheckpoint(worker.last(), 1, named);
    manager_->Stop();
  }
  const v1::Blob forgotten = AddBlob("uploaded, never reported");
  const v1::Blob young = AddBlob("uploaded just now");
  const auto yesterday = std::filesystem::file_time_type::clock::now() - std::chrono::hours(25);
  for (const v1::Blob& blob : {named, forgotten}) {
    std::filesystem::last_write_time(directory_ / ("blobs/" + blob.sha256()), yesterday);
  }
  Start();
  EXPECT_TRUE(HasBlob(named));
  EXPECT_FALSE(HasBlob(forgotten));
  EXPECT_TRUE(HasBlob(young));
}

// While files may not grow, nothing can be written: as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small = {.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_F(JobDurabilityTest, OnAFullDiskTheJobIsHeldAndGoesOnWhenThereIsRoom) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  worker.ReportStep(assigned, 1, 0.5);
  v1::WorkerMessage message;
  message.set_number(7);
  for (int step = 2; step <= 40; ++step) {
    v1::StepRecord& record = *message.mutable_report()->add_events()->mutable_step();
    record.set_step(step);
    record.set_epoch(1);
  }
  {
    const FullDisk full(600);
    EXPECT_FALSE(worker.Handle(assigned, message).ok());
    EXPECT_FALSE(worker.Handle(assigned, message).ok());
    EXPECT_TRUE(worker.last().hold().on());
    EXPECT_THAT(Job("a").state_reason(), HasSubstr("held"));
    EXPECT_EQ(Job("a").state(), v1::RUNNING);
    now_ += std::chrono::seconds(12);
  }
  EXPECT_TRUE(worker.Handle(assigned, message).ok());
  const std::vector<v1::ServerMessage> said = worker.received();
  ASSERT_EQ(said.size(), 4u) << "assignment, hold, its end, acknowledgement";
  EXPECT_TRUE(said[2].has_hold());
  EXPECT_FALSE(said[2].hold().on());
  EXPECT_EQ(said[3].acknowledgement().number(), 7);
  int64_t sequence = 0;
  int64_t step = 0;
  for (const v1::Event& event : Events("a")) {
    EXPECT_EQ(event.sequence(), ++sequence);
    if (event.has_step()) {
      EXPECT_EQ(event.step().step(), ++step);
    }
  }
  EXPECT_EQ(step, 40);
  EXPECT_THAT(Events("a").back().text().text(), HasSubstr("held for 12.0 s"));
}

TEST_F(JobDurabilityTest, AReceiptHasWhatAStrangerNeedsAndIsVerifiedByTrainingAgain) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  worker.ReportEpoch(assigned, 1, 2, "first", 0.5);
  worker.ReportEpoch(assigned, 2, 4, "second", 0.4);
  worker.Succeed(assigned, AddBlob("weights"));
  const v1::Receipt receipt = Value(store_->GetModel("a", 1)).receipt();
  ASSERT_EQ(receipt.epochs_size(), 2);
  EXPECT_EQ(receipt.epochs(1).state_hash(), "second");
  EXPECT_EQ(receipt.epochs(1).step(), 4);

  v1::SubmitJobRequest request;
  *request.mutable_spec() = receipt.spec();
  v1::Verification& wanted = *request.mutable_spec()->mutable_verification();
  *wanted.mutable_epochs() = receipt.epochs();
  wanted.set_steps(receipt.steps());
  wanted.set_state_hash(receipt.state_hash());
  request.set_id("same");
  EXPECT_EQ(Value(manager_->Submit(request)).fingerprint(), receipt.fingerprint());
  worker.ReportEpoch(worker.last(), 1, 2, "first", 0.5);
  worker.ReportEpoch(worker.last(), 2, 4, "second", 0.4);
  worker.Succeed(worker.last(), AddBlob("weights"));
  EXPECT_EQ(Job("same").state(), v1::SUCCEEDED) << Job("same").state_reason();
  EXPECT_FALSE(Job("same").has_published());
  EXPECT_EQ(Value(store_->ListModelVersions("a")).size(), 1u);

  request.set_id("other");
  ASSERT_TRUE(manager_->Submit(request).ok());
  worker.ReportEpoch(worker.last(), 1, 2, "first", 0.5);
  worker.ReportEpoch(worker.last(), 2, 4, "third", 0.4);
  EXPECT_EQ(Job("other").state(), v1::FAILED) << "at the first that differs";
  EXPECT_THAT(Job("other").state_reason(), HasSubstr("epoch 2 (step 4) is third"));
  worker.ConfirmCancelled(worker.received()[worker.received().size() - 2]);

  wanted.set_state_hash("xyz");
  request.set_id("end");
  ASSERT_TRUE(manager_->Submit(request).ok());
  worker.Succeed(worker.last(), AddBlob("weights"));
  EXPECT_EQ(Job("end").state(), v1::FAILED);
  EXPECT_THAT(Job("end").state_reason(), HasSubstr("at the end (step 4)"));
}

}  // namespace
}  // namespace lockstep
