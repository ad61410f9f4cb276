#include "server/tensorboard/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "tests/server/store/faults.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

// A job that has ended, with its log in a run directory.
class EventFileTest : public testing::Test {
 protected:
  void SetUp() override {
    job_.set_id("a");
    job_.mutable_create_time()->set_seconds(1700000000);
    job_.mutable_spec()->mutable_training()->set_batch_size(8);
    log_ = *EventLog::Open(directory_ / "events.log");
    AddState(v1::QUEUED);
    AddState(v1::RUNNING);
    for (int step = 1; step <= 2; ++step) AddStep(step);
  }

  void AddState(v1::JobState state) {
    v1::Event event;
    event.mutable_state()->set_state(state);
    ASSERT_TRUE(log_->Append({&event, 1}).ok());
  }
  void AddStep(int64_t step) {
    v1::Event event;
    event.mutable_step()->set_step(step);
    v1::MetricSummary& loss = *event.mutable_step()->add_metrics();
    loss.set_name("loss");
    loss.set_mean(1.0 / static_cast<double>(step));
    ASSERT_TRUE(log_->Append({&event, 1}).ok());
  }
  void End() {
    AddState(v1::SUCCEEDED);
    ASSERT_TRUE(log_->Close().ok());
  }

  // As a server does that has just started.
  bool Update() {
    const absl::StatusOr<bool> complete = EventFile(directory_.path(), job_).Update(*log_);
    EXPECT_TRUE(complete.ok()) << complete.status();
    return complete.value_or(false);
  }
  std::string path() const { return EventFile(directory_.path(), job_).path(); }
  std::string Bytes() const {
    std::ifstream file(path(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void SetBytes(const std::string& bytes) const {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes;
  }

  TemporaryDirectory directory_;
  v1::Job job_;
  std::unique_ptr<EventLog> log_;
};

TEST_F(EventFileTest, FollowsALogToTheSameBytesAsOneGoAtItsEnd) {
  EventFile followed(directory_.path(), job_);
  std::string before;
  for (int64_t step = 3; step < 200; ++step) {
    AddStep(step);
    ASSERT_FALSE(*followed.Update(*log_));
    const std::string bytes = Bytes();
    ASSERT_TRUE(bytes.starts_with(before)) << "a reader has seen other bytes";
    ASSERT_GT(bytes.size(), before.size());
    before = bytes;
  }
  End();
  EXPECT_TRUE(*followed.Update(*log_));
  const std::string bytes = Bytes();
  ASSERT_TRUE(std::filesystem::remove(path()));
  EXPECT_TRUE(Update());
  EXPECT_EQ(Bytes(), bytes);
}

TEST_F(EventFileTest, AFileTornAnywhereIsCompletedByteForByte) {
  End();
  Update();
  const std::string whole = Bytes();
  for (size_t length = 0; length < whole.size(); ++length) {
    SetBytes(whole.substr(0, length));
    EXPECT_FALSE(HasCompleteEventFile(directory_.path())) << length;
    EXPECT_TRUE(Update());
    ASSERT_EQ(Bytes(), whole) << length;
  }
  EXPECT_TRUE(HasCompleteEventFile(directory_.path()));
}

TEST_F(EventFileTest, WhatIsWrongInAFileIsWrittenAnew) {
  End();
  Update();
  const std::string whole = Bytes();
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] ^= 0x40;
    SetBytes(damaged);
    EXPECT_TRUE(Update());
    ASSERT_EQ(Bytes(), whole) << i;
  }
  SetBytes(whole + "a longer log's");
  EXPECT_FALSE(HasCompleteEventFile(directory_.path()));
  EXPECT_TRUE(Update());
  EXPECT_EQ(Bytes(), whole);
}

TEST_F(EventFileTest, AFileThatIsRemovedUnderARunningJobComesBackWhole) {
  EventFile file(directory_.path(), job_);
  ASSERT_TRUE(file.Update(*log_).ok());
  std::filesystem::remove(path());
  AddStep(3);
  ASSERT_TRUE(file.Update(*log_).ok());
  const std::string bytes = Bytes();
  Update();
  EXPECT_EQ(Bytes(), bytes);
}

TEST_F(EventFileTest, ADeletedRunGetsNoFile) {
  EventFile file(directory_.path(), job_);
  ASSERT_TRUE(file.Update(*log_).ok());
  std::filesystem::remove_all(directory_.path());
  AddStep(3);
  EXPECT_TRUE(absl::IsNotFound(file.Update(*log_).status()));
  EXPECT_FALSE(std::filesystem::exists(directory_.path()));
}

TEST_F(EventFileTest, WhatFailsIsMadeGoodByTheNextUpdate) {
  for (int64_t step = 3; step < 200; ++step) AddStep(step);  // several writes
  End();
  Update();
  const std::string whole = Bytes();
  for (const faults::Kind kind :
       {faults::Kind::kError, faults::Kind::kCutShort, faults::Kind::kErrorAfter}) {
    bool met = true;
    for (int index = 0; met; ++index) {
      std::filesystem::remove(path());
      EventFile file(directory_.path(), job_);
      faults::FailOnce(index, kind);
      const absl::StatusOr<bool> first = file.Update(*log_);
      met = faults::Stop();
      const absl::StatusOr<bool> second = file.Update(*log_);
      ASSERT_TRUE(second.ok()) << second.status();
      EXPECT_TRUE(*second);
      ASSERT_EQ(Bytes(), whole) << index << ", first " << first.status();
    }
  }
}

TEST_F(EventFileTest, NothingIsEverSynced) {
  End();
  faults::Watch();
  Update();
  faults::Stop();
  EXPECT_EQ(faults::Syncs(), 0);
}

}  // namespace
}  // namespace lockstep
