// What a job's events say about how far it is.

#include "client/cli/job_progress.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using ::testing::ElementsAre;

// The server's clock is years off: only differences may be used.
constexpr int64_t kServerStart = 1'000'000;
const absl::Time kHere = absl::FromUnixSeconds(2'000'000'000);

v1::Event EventAt(double seconds, const std::string& text) {
  v1::Event event;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &event)) << text;
  const int64_t millis = static_cast<int64_t>(seconds * 1000);
  event.mutable_time()->set_seconds(kServerStart + millis / 1000);
  event.mutable_time()->set_nanos(millis % 1000 * 1'000'000);
  return event;
}

class JobProgressTest : public testing::Test {
 protected:
  static v1::Job Job() {
    v1::Job job;
    job.set_id("j");
    job.mutable_create_time()->set_seconds(kServerStart - 10);
    job.mutable_progress()->set_total_steps(400);
    job.mutable_progress()->set_steps_per_epoch(100);
    job.mutable_progress()->set_epochs(4);
    return job;
  }

  void Apply(double seconds, const std::string& text) {
    progress_.Apply(EventAt(seconds, text), kHere + absl::Seconds(seconds));
  }
  ProgressLine LineAt(double seconds) const {
    return progress_.Line(kHere + absl::Seconds(seconds));
  }

  std::string StateLine(const std::string& state, const std::string& reason = "") const {
    return progress_.StateLine(
        EventAt(0, "state { state: " + state + " reason: '" + reason + "' }").state());
  }

  JobProgress progress_{Job()};
};

TEST_F(JobProgressTest, QueuedJobWaits) {
  Apply(-10, "state { state: QUEUED }");
  const ProgressLine line = LineAt(-3);
  EXPECT_EQ(line.label, "queued, waiting for a worker");
  EXPECT_FALSE(line.fraction.has_value());
  EXPECT_DOUBLE_EQ(line.elapsed_s, 7);
}

TEST_F(JobProgressTest, RunningJobHasNoRateBeforeItsFirstRecord) {
  Apply(0, "state { state: RUNNING }");
  const ProgressLine line = LineAt(2);
  EXPECT_EQ(line.label, "epoch 1/4");
  EXPECT_EQ(line.count, "0/400");
  EXPECT_EQ(line.rate, "? samples/s");
  EXPECT_DOUBLE_EQ(line.elapsed_s, 2);
  EXPECT_FALSE(line.remaining_s.has_value());
}

TEST_F(JobProgressTest, TimeLeftIsTheWholeJobsAndCountsDown) {
  Apply(0, "state { state: RUNNING }");
  Apply(10,
        "step { step: 100 epoch: 1 metrics { name: 'loss' mean: 0.5 last: 9 } "
        "timing { samples_per_second: 320 } }");
  ProgressLine line = LineAt(10);
  EXPECT_DOUBLE_EQ(*line.fraction, 0.25);
  EXPECT_DOUBLE_EQ(*line.remaining_s, 30);
  EXPECT_EQ(line.rate, "320 samples/s");
  EXPECT_THAT(line.metrics, ElementsAre("loss=0.5000"));
  line = LineAt(14);
  EXPECT_DOUBLE_EQ(line.elapsed_s, 14);
  EXPECT_DOUBLE_EQ(*line.remaining_s, 26);
  EXPECT_DOUBLE_EQ(*LineAt(1000).remaining_s, 0);
}

TEST_F(JobProgressTest, RateIsSmoothed) {
  Apply(0, "state { state: RUNNING }");
  Apply(1, "step { step: 50 epoch: 1 timing { samples_per_second: 100 } }");
  Apply(2, "step { step: 100 epoch: 1 timing { samples_per_second: 200 } }");
  EXPECT_EQ(LineAt(2).rate, "130 samples/s");
}

TEST_F(JobProgressTest, FinishedEpochKeepsItsMetrics) {
  Apply(0, "state { state: RUNNING }");
  const std::string epoch =
      "epoch { epoch: 1 step: 100 metrics { name: 'loss' value: 0.5 } "
      "metrics { name: 'accuracy' value: 0.875 } metrics { name: 'val_loss' value: 0.55 } "
      "timing { samples_per_second: 1620 } }";
  Apply(12, epoch);
  const v1::EpochRecord record = EventAt(12, epoch).epoch();
  EXPECT_EQ(progress_.EpochLine(record, 80),
            "epoch 1/4 [00:12, 1.62k samples/s]  loss 0.5000 (val 0.5500)  accuracy 0.8750");
  EXPECT_EQ(progress_.EpochLine(record, 60),
            "epoch 1/4 [00:12]  loss 0.5000 (val 0.5500)  accuracy 0.8750");
  EXPECT_EQ(LineAt(12).label, "epoch 2/4");
}

TEST_F(JobProgressTest, LastEpochStaysTheLast) {
  Apply(0, "state { state: RUNNING }");
  Apply(40, "epoch { epoch: 4 step: 400 }");
  EXPECT_EQ(LineAt(40).label, "epoch 4/4");
  EXPECT_DOUBLE_EQ(*LineAt(40).fraction, 1);
}

TEST_F(JobProgressTest, NextAttemptHasAPaceOfItsOwn) {
  Apply(0, "state { state: RUNNING }");
  Apply(10, "step { step: 100 epoch: 1 timing { samples_per_second: 100 } }");
  Apply(50, "state { state: QUEUED reason: 'the worker was lost' }");
  Apply(60, "state { state: RUNNING }");
  EXPECT_EQ(LineAt(60).rate, "? samples/s");
  Apply(80, "step { step: 200 epoch: 2 timing { samples_per_second: 500 } }");
  EXPECT_EQ(LineAt(80).rate, "500 samples/s");
  EXPECT_DOUBLE_EQ(*LineAt(80).remaining_s, 20);
  EXPECT_DOUBLE_EQ(LineAt(80).elapsed_s, 80);
}

TEST_F(JobProgressTest, NextAttemptGoesOnFromTheNewestCheckpoint) {
  Apply(0, "state { state: RUNNING } attempt: 1");
  EXPECT_EQ(StateLine("RUNNING"), "running");
  Apply(10, "checkpoint { step: 90 }");
  Apply(11, "step { step: 100 epoch: 1 }");
  Apply(12, "state { state: QUEUED }");
  EXPECT_EQ(StateLine("QUEUED", "the worker was lost"), "queued: the worker was lost");
  EXPECT_EQ(LineAt(15).label, "queued at step 100, waiting for a worker");
  EXPECT_DOUBLE_EQ(LineAt(15).elapsed_s, 3);
  Apply(20, "state { state: RUNNING } attempt: 2");
  EXPECT_EQ(StateLine("RUNNING"), "attempt 2: goes on from step 90");
  EXPECT_EQ(StateLine("RUNNING", "on h:1"), "attempt 2: goes on from step 90 (on h:1)");
  Apply(30, "step { step: 190 epoch: 2 }");
  // 100 steps in 10 s: those before the checkpoint are not this attempt's.
  EXPECT_DOUBLE_EQ(*LineAt(30).remaining_s, 21);
}

TEST_F(JobProgressTest, NextAttemptWithoutCheckpointStartsAgain) {
  Apply(0, "state { state: RUNNING } attempt: 2");
  EXPECT_EQ(StateLine("RUNNING"), "attempt 2: starts again, there was no checkpoint yet");
}

TEST_F(JobProgressTest, WatchThatBeginsInTheMiddleDoesNotGuessWhereAnAttemptBegan) {
  Apply(0, "sequence: 40 state { state: RUNNING } attempt: 2");
  EXPECT_EQ(StateLine("RUNNING"), "attempt 2");
}

TEST_F(JobProgressTest, PausedJobSaysWhereItStandsAndHowItGoesOn) {
  Apply(0, "state { state: RUNNING } attempt: 1");
  Apply(10, "step { step: 100 epoch: 1 }");
  Apply(11, "checkpoint { step: 104 }");
  Apply(12, "state { state: PAUSED }");
  EXPECT_FALSE(progress_.ended());
  EXPECT_EQ(StateLine("PAUSED"), "paused at step 104; `lockstep resume j` goes on");
  EXPECT_EQ(LineAt(72).label, "paused at step 104; `lockstep resume j` goes on");
  EXPECT_FALSE(LineAt(72).fraction.has_value());
  EXPECT_DOUBLE_EQ(LineAt(72).elapsed_s, 60);
  Apply(80, "state { state: QUEUED }");
  Apply(81, "state { state: RUNNING } attempt: 2");
  EXPECT_EQ(StateLine("RUNNING"), "attempt 2: goes on from step 104");
}

TEST_F(JobProgressTest, WatchThatComesBackToAPausedJobKnowsThatItIs) {
  v1::Job job = Job();
  job.set_state(v1::PAUSED);
  job.mutable_progress()->set_step(104);
  progress_ = JobProgress(job);
  EXPECT_EQ(LineAt(0).label, "paused at step 104; `lockstep resume j` goes on");
  Apply(-10, "sequence: 1 state { state: QUEUED }");
  EXPECT_EQ(LineAt(0).label, "queued, waiting for a worker") << "when the whole log is told";
}

TEST_F(JobProgressTest, CheckpointsDoNotFlood) {
  std::vector<std::string> lines;
  for (int second = 0; second < 130; second += 10) {
    const std::string line = progress_.CheckpointLine(
        EventAt(second, "checkpoint { step: " + std::to_string(second) + " size_bytes: 4200 }"));
    if (!line.empty()) lines.push_back(line);
  }
  EXPECT_THAT(lines, ElementsAre("checkpoint at step 0 (4.2 kB)", "checkpoint at step 60 (4.2 kB)",
                                 "checkpoint at step 120 (4.2 kB)"));
}

TEST_F(JobProgressTest, VerificationCountsFromItsCheckpoint) {
  v1::Job job = Job();
  job.mutable_spec()->mutable_verification()->mutable_checkpoint()->set_step(300);
  progress_ = JobProgress(job);
  Apply(0, "state { state: RUNNING } attempt: 1");
  EXPECT_EQ(LineAt(0).count, "300/400");
  Apply(10, "step { step: 350 epoch: 4 }");
  EXPECT_DOUBLE_EQ(*LineAt(10).remaining_s, 10);
}

TEST_F(JobProgressTest, TerminalStatesEndIt) {
  for (const char* state : {"SUCCEEDED", "FAILED", "CANCELLED"}) {
    Apply(1, "state { state: RUNNING }");
    EXPECT_FALSE(progress_.ended());
    Apply(2, std::string("state { state: ") + state + " }");
    EXPECT_TRUE(progress_.ended());
  }
}

TEST_F(JobProgressTest, WatchThatBeginsInTheMiddleCopes) {
  Apply(30, "step { step: 300 epoch: 3 timing { samples_per_second: 100 } }");
  EXPECT_EQ(LineAt(31).label, "epoch 3/4");
  EXPECT_FALSE(LineAt(31).remaining_s.has_value());
  EXPECT_GE(LineAt(31).elapsed_s, 0);
  Apply(31, "epoch { epoch: 3 step: 300 metrics { name: 'loss' value: 0.5 } }");
  v1::EpochRecord record;
  record.set_epoch(3);
  EXPECT_EQ(progress_.EpochLine(record, 80), "epoch 3/4 [?]");
}

TEST_F(JobProgressTest, WatchThatBeginsInTheMiddleTakesTheStartFromTheJob) {
  v1::Job job = Job();
  job.mutable_start_time()->set_seconds(kServerStart);
  job.set_attempt(1);
  progress_ = JobProgress(job);
  Apply(30, "step { step: 300 epoch: 3 timing { samples_per_second: 100 } }");
  EXPECT_DOUBLE_EQ(LineAt(31).elapsed_s, 31);
  EXPECT_DOUBLE_EQ(*LineAt(31).remaining_s, 9);
}

}  // namespace
}  // namespace lockstep
