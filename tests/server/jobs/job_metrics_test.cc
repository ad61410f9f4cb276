// What JobManager counts.

#include "server/telemetry/metrics.h"
#include "tests/server/jobs/fixture.h"
#include "tests/server/telemetry/figure.h"

namespace lockstep {
namespace {

class JobMetricsTest : public JobsTest {
 protected:
  double Count(const std::string& name) { return Figure(*metrics_, name); }
  double Jobs(const std::string& state) { return Count("lockstep_jobs{state=\"" + state + "\"}"); }
};

TEST_F(JobMetricsTest, JobsByStateFollowEveryChangeAndAreTheSameAfterARestart) {
  for (const char* id : {"a", "b", "c", "d"}) Submit(id);
  EXPECT_EQ(Jobs("queued"), 4);
  {
    FakeWorker worker(manager_.get());
    EXPECT_EQ(Jobs("queued"), 3);
    EXPECT_EQ(Jobs("running"), 1);
    worker.Fail(worker.last(), "no");
    Value(manager_->Cancel("c"));
    Value(manager_->Pause("d"));
  }
  Value(manager_->Cancel("b"));
  EXPECT_TRUE(manager_->Delete("c").ok());
  for (int time = 0; time < 2; ++time) {
    EXPECT_EQ(Jobs("queued"), 0);
    EXPECT_EQ(Jobs("running"), 0);
    EXPECT_EQ(Jobs("paused"), 1);
    EXPECT_EQ(Jobs("cancelled"), 1);
    EXPECT_EQ(Jobs("failed"), 1);
    EXPECT_EQ(Jobs("succeeded"), 0);
    Start();
  }
}

TEST_F(JobMetricsTest, AStepCountsOnceHoweverOftenItIsTrained) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportStep(worker.last(), 1, 0.5);
    worker.ReportStep(worker.last(), 2, 0.4);
    EXPECT_EQ(Count("lockstep_steps_total"), 2);
    EXPECT_EQ(Count("lockstep_attempts_lost_total"), 0);
  }
  EXPECT_EQ(Count("lockstep_attempts_lost_total"), 1);
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assignment = worker.last();
  worker.ReportStep(assignment, 1, 0.5);
  worker.ReportStep(assignment, 2, 0.4);
  EXPECT_EQ(Count("lockstep_steps_total"), 2);
  const double events = Count("lockstep_events_total");
  worker.ReportStep(assignment, 4, 0.3);  // with what lies between
  EXPECT_EQ(Count("lockstep_steps_total"), 4);
  EXPECT_EQ(Count("lockstep_samples_total"), 16);
  EXPECT_EQ(Count("lockstep_events_total"), events + 1);
  EXPECT_EQ(Count("lockstep_events_total"), static_cast<double>(Events("a").size()));
}

TEST_F(JobMetricsTest, StepsBetweenTheLastRecordAndACheckpointCountToo) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportStep(worker.last(), 1, 0.5);
    worker.ReportCheckpoint(worker.last(), 2, AddBlob("12345"));
  }
  FakeWorker worker(manager_.get());
  worker.ReportStep(worker.last(), 3, 0.3);
  EXPECT_EQ(Count("lockstep_steps_total"), 3);
}

TEST_F(JobMetricsTest, AStepThatWasLoggedBeforeARestartDoesNotCountAgain) {
  Submit("a");
  {
    FakeWorker worker(manager_.get());
    worker.ReportStep(worker.last(), 2, 0.5);
  }
  Start();
  FakeWorker worker(manager_.get());
  worker.ReportStep(worker.last(), 2, 0.5);
  EXPECT_EQ(Count("lockstep_steps_total"), 0);
  worker.ReportStep(worker.last(), 3, 0.4);
  EXPECT_EQ(Count("lockstep_steps_total"), 1);
}

TEST_F(JobMetricsTest, TheTimeInTheQueueEndsWithTheAssignment) {
  Submit("a");
  Advance(std::chrono::seconds(7));
  FakeWorker worker(manager_.get());
  Advance(std::chrono::seconds(100));
  EXPECT_EQ(Count("lockstep_queue_seconds_count"), 1);
  EXPECT_EQ(Count("lockstep_queue_seconds_sum"), 7);
}

TEST_F(JobMetricsTest, CheckpointsCountWithTheirBytes) {
  Submit("a");
  FakeWorker worker(manager_.get());
  worker.ReportStep(worker.last(), 1, 0.5);
  worker.ReportCheckpoint(worker.last(), 1, AddBlob("12345"));
  EXPECT_EQ(Count("lockstep_checkpoints_total"), 1);
  EXPECT_EQ(Count("lockstep_checkpoint_bytes_total"), 5);
}

TEST_F(JobMetricsTest, OnlyAWorkerWithAJobIsExpectedToSpeak) {
  metrics_->CollectWorkers([this] { return manager_->CountWorkers(); });
  FakeWorker worker(manager_.get());
  Advance(std::chrono::seconds(50));
  EXPECT_EQ(Count("lockstep_workers{state=\"idle\"}"), 1);
  EXPECT_EQ(Count("lockstep_worker_last_message_age_seconds"), 0);
  Submit("a");
  Advance(std::chrono::seconds(3));
  EXPECT_EQ(Count("lockstep_workers{state=\"idle\"}"), 0);
  EXPECT_EQ(Count("lockstep_workers{state=\"busy\"}"), 1);
  EXPECT_EQ(Count("lockstep_worker_last_message_age_seconds"), 3);
  worker.ReportStep(worker.last(), 1, 0.5);
  EXPECT_EQ(Count("lockstep_worker_last_message_age_seconds"), 0);
}

}  // namespace
}  // namespace lockstep
