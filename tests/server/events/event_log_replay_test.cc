// What the log does when a run says again what it has said, and when the disk fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/events/event_log.h"
#include "server/store/files.h"
#include "tests/server/store/faults.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

v1::Event Step(int64_t step, double loss = 0.5) {
  v1::Event event;
  event.mutable_step()->set_step(step);
  event.mutable_step()->add_metrics()->set_last(loss);
  return event;
}

v1::Event Epoch(int64_t epoch) {
  v1::Event event;
  event.mutable_epoch()->set_epoch(epoch);
  event.mutable_epoch()->set_step(10 * epoch);
  return event;
}

v1::Event BatchNorm(int64_t epoch, double drift = 0.25) {
  v1::Event event;
  event.mutable_batch_norm()->set_epoch(epoch);
  event.mutable_batch_norm()->set_step(10 * epoch);
  event.mutable_batch_norm()->add_layers()->set_mean_drift(drift);
  return event;
}

v1::Event Weights(int64_t epoch, double sum = 0.25) {
  v1::Event event;
  event.mutable_weights()->set_epoch(epoch);
  event.mutable_weights()->set_step(10 * epoch);
  event.mutable_weights()->add_tensors()->set_sum(sum);
  return event;
}

v1::Event Text(int64_t step, const std::string& text) {
  v1::Event event;
  event.mutable_text()->set_step(step);
  event.mutable_text()->set_text(text);
  return event;
}

v1::Event Profile(int attempt) {
  v1::Event event;
  event.set_attempt(attempt);
  event.mutable_profile()->set_step_ms(attempt);
  return event;
}

v1::Event Checkpoint(int64_t step) {
  v1::Event event;
  event.mutable_checkpoint()->set_step(step);
  return event;
}

// Of step 10, the first epoch's last, up to the second's.
std::vector<v1::Event> TwoEpochs() {
  return {Step(10), Epoch(1), Weights(1), BatchNorm(1), Text(10, "a"), Text(10, "b"),
          Step(20), Epoch(2), Weights(2), BatchNorm(2), Text(20, "a"), Text(20, "c")};
}

std::string Describe(const v1::Event& event) {
  if (event.has_step()) return absl::StrCat("step ", event.step().step());
  if (event.has_epoch()) return absl::StrCat("epoch ", event.epoch().epoch());
  if (event.has_batch_norm()) return absl::StrCat("batch norm ", event.batch_norm().epoch());
  if (event.has_weights()) return absl::StrCat("weights ", event.weights().epoch());
  if (event.has_profile()) return absl::StrCat("profile ", event.attempt());
  if (event.has_checkpoint()) return absl::StrCat("checkpoint ", event.checkpoint().step());
  return absl::StrCat("text ", event.text().step(), " ", event.text().text());
}

std::vector<std::string> Describe(const std::vector<v1::Event>& events) {
  std::vector<std::string> lines;
  for (const v1::Event& event : events) lines.push_back(Describe(event));
  return lines;
}

class EventLogReplayTest : public testing::Test {
 protected:
  EventLogReplayTest() { Reopen(); }

  void Reopen() {
    log_.reset();
    absl::StatusOr<std::unique_ptr<EventLog>> log = EventLog::Open(path_);
    ASSERT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
  }

  absl::Status Append(std::vector<v1::Event> events) { return log_->Append(events); }
  absl::Status Append(v1::Event event) { return log_->Append({&event, 1}); }

  std::vector<std::string> Logged() {
    absl::StatusOr<EventLog::Batch> batch = log_->Read(1, 1 << 20);
    EXPECT_TRUE(batch.ok()) << batch.status();
    for (size_t i = 0; i < batch->events.size(); ++i) {
      EXPECT_EQ(batch->events[i].sequence(), static_cast<int64_t>(i) + 1);
    }
    return Describe(batch->events);
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "events.log";
  std::unique_ptr<EventLog> log_;
};

// A crash leaves any number of a run's first events; the next attempt says all of them.
TEST_F(EventLogReplayTest, AReplayAppendsJustWhatATornLogLacks) {
  const std::vector<v1::Event> all = TwoEpochs();
  for (size_t kept = 0; kept <= all.size(); ++kept) {
    std::filesystem::remove(path_);
    Reopen();
    ASSERT_TRUE(Append(std::vector(all.begin(), all.begin() + kept)).ok());
    Reopen();
    for (const v1::Event& event : all) ASSERT_TRUE(Append(event).ok()) << kept;
    EXPECT_THAT(Logged(), ElementsAreArray(Describe(all))) << kept << " were kept";
  }
}

// A worker sends again what was not acknowledged; the server may take both down at once.
TEST_F(EventLogReplayTest, OneAttemptMayRepeatItself) {
  const std::vector<v1::Event> all = TwoEpochs();
  std::vector<v1::Event> twice = all;
  twice.insert(twice.end(), all.begin(), all.end());
  ASSERT_TRUE(log_->Append(twice).ok());
  for (size_t i = 0; i < twice.size(); ++i) {
    EXPECT_EQ(twice[i].sequence(), i < all.size() ? static_cast<int64_t>(i) + 1 : 0);
  }
  ASSERT_TRUE(Append(all).ok());
  EXPECT_THAT(Logged(), ElementsAreArray(Describe(all)));
}

TEST_F(EventLogReplayTest, TextsOfAStepMayComeInAnyOrder) {
  ASSERT_TRUE(Append(TwoEpochs()).ok());
  ASSERT_TRUE(Append({Text(10, "b"), Text(10, "a")}).ok());
  EXPECT_EQ(log_->last_sequence(), 12);
}

TEST_F(EventLogReplayTest, KeepsOneProfileAnAttemptAndEveryCheckpointAndServersText) {
  const std::vector<v1::Event> events = {Profile(1),   Profile(1),   Checkpoint(5), Checkpoint(5),
                                         Text(0, "x"), Text(0, "x"), Profile(2)};
  ASSERT_TRUE(Append(events).ok());
  Reopen();
  ASSERT_TRUE(Append({Profile(1), Profile(2)}).ok());
  EXPECT_THAT(Logged(), ElementsAre("profile 1", "checkpoint 5", "checkpoint 5", "text 0 x",
                                    "text 0 x", "profile 2"));
}

TEST_F(EventLogReplayTest, RefusesWhatTheRunBeforeSaidOtherwise) {
  ASSERT_TRUE(Append(TwoEpochs()).ok());
  const struct {
    v1::Event event;
    std::string names;
  } cases[] = {
      {BatchNorm(1, 0.25 + 1e-16), "BatchNorm report of epoch 1"},
      {Weights(1, 0.25 + 1e-16), "weight report of epoch 1"},
      {Text(10, "other"), "text of step 10"},
      {Text(15, "a"), "text of step 15"},
  };
  for (const auto& c : cases) {
    const absl::Status status = Append({Step(30), c.event});
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_FALSE(IsStorageFailure(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.names));
    EXPECT_EQ(log_->last_sequence(), 12);
  }
  // Also within one call; and what a refused call said before does not count.
  EXPECT_TRUE(absl::IsDataLoss(Append({Step(30, 0.5), Step(30, 0.75)})));
  ASSERT_TRUE(Append(Step(30, 0.75)).ok());
  EXPECT_EQ(Logged().back(), "step 30");
}

// Whatever fails once while events are appended: it is reported, nobody sees them, and the same
// call then succeeds.
TEST_F(EventLogReplayTest, AnyFailureIsReportedAndMayBeTriedAgain) {
  for (const faults::Kind kind :
       {faults::Kind::kError, faults::Kind::kCutShort, faults::Kind::kErrorAfter}) {
    int index = 0;
    for (bool met = true; met; ++index) {
      SCOPED_TRACE(absl::StrCat("operation ", index, " kind ", static_cast<int>(kind)));
      std::filesystem::remove(path_);
      Reopen();
      ASSERT_TRUE(Append(Step(10)).ok());
      const auto whole = std::filesystem::file_size(path_);
      int woken = 0;
      log_->NotifyFrom(2, [&] { ++woken; });
      std::vector<v1::Event> events = {Step(20), Text(20, "a"), Text(0, "b")};
      faults::FailOnce(index, kind);
      const absl::Status status = log_->Append(events);
      met = faults::Stop();
      ASSERT_EQ(status.ok(), !met) << status;
      if (!status.ok()) {
        EXPECT_TRUE(IsStorageFailure(status)) << status;
        EXPECT_EQ(events[0].sequence(), 0);
        EXPECT_EQ(log_->last_sequence(), 1);
        EXPECT_EQ(woken, 0);
        EXPECT_EQ(std::filesystem::file_size(path_), whole);
        // While making the end good fails, too, nothing is written behind it.
        for (int again = 0; again < 2; ++again) {
          faults::FailOnce(again, faults::Kind::kError);
          EXPECT_FALSE(log_->Append(events).ok());
          EXPECT_TRUE(faults::Stop());
          EXPECT_EQ(std::filesystem::file_size(path_), whole);
        }
        ASSERT_TRUE(log_->Append(events).ok());
      }
      EXPECT_EQ(events[2].sequence(), 4);
      EXPECT_EQ(woken, 1);
      ASSERT_TRUE(Append(Text(0, "after")).ok());
      Reopen();
      EXPECT_THAT(Logged(),
                  ElementsAre("step 10", "step 20", "text 20 a", "text 0 b", "text 0 after"));
    }
    EXPECT_EQ(index, 3) << "write, sync; none";
  }
}

// A disk that goes away leaves anything behind the last durable event; nothing of it stays, also if
// what is appended then is shorter.
TEST_F(EventLogReplayTest, ADiskThatGoesAwayLeavesNothingBehind) {
  for (int index = 0; index < 2; ++index) {
    SCOPED_TRACE(absl::StrCat("operation ", index));
    std::filesystem::remove(path_);
    Reopen();
    ASSERT_TRUE(Append(Step(10)).ok());
    const auto whole = std::filesystem::file_size(path_);
    faults::FailFrom(index);
    EXPECT_TRUE(IsStorageFailure(Append({Step(20), Text(0, std::string(1000, 'x'))})));
    EXPECT_TRUE(IsStorageFailure(Append(Step(20))));
    EXPECT_TRUE(faults::Stop());
    EXPECT_GT(std::filesystem::file_size(path_), whole + 400);
    ASSERT_TRUE(Append(Step(20)).ok());
    EXPECT_LT(std::filesystem::file_size(path_), whole + 400);
    Reopen();
    EXPECT_THAT(Logged(), ElementsAre("step 10", "step 20"));
  }
}

// A killed server may leave records that it never waited for: they count once they are safe.
TEST_F(EventLogReplayTest, WhatIsReadOnOpeningIsDurable) {
  ASSERT_TRUE(Append(Step(10)).ok());
  log_.reset();
  std::vector<int> reported;
  for (int index = 0;; ++index) {
    faults::FailOnce(index, faults::Kind::kError);
    const absl::StatusOr<std::unique_ptr<EventLog>> log = EventLog::Open(path_);
    if (!faults::Stop()) break;
    if (IsStorageFailure(log.status())) reported.push_back(index);
  }
  EXPECT_THAT(reported, ElementsAre(0, 2))
      << "the directory's sync, not its close; the file's sync";
}

}  // namespace
}  // namespace lockstep
