#include "server/tensorboard/event_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>

#include "absl/time/clock.h"
#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

class EventFilesTest : public JobsTest {
 protected:
  EventFilesTest() {
    on_log_ = [this](const std::string& id) {
      if (files_ != nullptr) files_->Follow(id);
    };
  }
  void SetUp() override {
    JobsTest::SetUp();
    StartFiles();
  }
  void TearDown() override { files_.reset(); }

  void StartFiles(int64_t least_free_bytes = 0) {
    EventFiles::Options options;
    options.least_free_bytes = least_free_bytes;
    options.runs_directory = directory_ / "runs";
    options.pause = absl::Milliseconds(1);
    options.retry = absl::Milliseconds(10);
    files_ = std::make_unique<EventFiles>(options, manager_.get());
  }

  std::string RunDirectory(const std::string& id) const { return directory_ / ("runs/" + id); }
  std::string Path(const std::string& id) { return EventFile(RunDirectory(id), Job(id)).path(); }
  static std::string Bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  // What a job's file has to be by now.
  std::string Projection(const std::string& id) {
    TemporaryDirectory other;
    EventFile file(other.path(), Job(id));
    EXPECT_TRUE(file.Update(*Value(manager_->Log(id))).ok());
    return Bytes(file.path());
  }

  static bool Eventually(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  }
  bool IsUpToDate(const std::string& id) {
    return Eventually([&] { return Bytes(Path(id)) == Projection(id); });
  }

  std::unique_ptr<EventFiles> files_;
};

TEST_F(EventFilesTest, FollowAJobFromItsFirstAttemptToItsEnd) {
  Submit("a");
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  for (int64_t step = 1; step <= 4; ++step) {
    worker.ReportStep(assigned, step, 0.5);
    ASSERT_TRUE(IsUpToDate("a")) << step;
    EXPECT_FALSE(HasCompleteEventFile(RunDirectory("a")));
  }
  worker.Succeed(assigned, AddBlob("weights"));
  ASSERT_TRUE(IsUpToDate("a"));
  EXPECT_TRUE(HasCompleteEventFile(RunDirectory("a")));
}

TEST_F(EventFilesTest, AJobThatHasNotRunHasNone) {
  Submit("a");
  FakeWorker worker(manager_.get());
  Submit("waits");
  Submit("not-yet");
  worker.Fail(worker.last(), "stop");  // the worker goes on with the next
  ASSERT_TRUE(Eventually([&] { return HasCompleteEventFile(RunDirectory("a")); }));
  ASSERT_TRUE(IsUpToDate("waits"));
  EXPECT_FALSE(std::filesystem::exists(Path("not-yet")));
}

TEST_F(EventFilesTest, WhatAKilledServerLeftTornIsCompletedByTheNext) {
  Submit("ended");
  Submit("running");
  {
    FakeWorker worker(manager_.get());
    worker.ReportStep(worker.last(), 1, 0.5);
    worker.Succeed(worker.last(), AddBlob("weights"));
    worker.ReportStep(worker.last(), 1, 0.25);
    ASSERT_TRUE(IsUpToDate("ended"));
    ASSERT_TRUE(IsUpToDate("running"));
  }
  files_.reset();
  const std::string whole = Bytes(Path("ended"));
  std::filesystem::resize_file(Path("ended"), whole.size() - 3);
  std::filesystem::resize_file(Path("running"), 100);
  Start();
  StartFiles();
  EXPECT_TRUE(IsUpToDate("ended"));
  EXPECT_EQ(Bytes(Path("ended")), whole);
  EXPECT_TRUE(IsUpToDate("running"));
  FakeWorker worker(manager_.get());
  worker.ReportStep(worker.last(), 2, 0.125);
  EXPECT_TRUE(IsUpToDate("running"));
}

TEST_F(EventFilesTest, WhatCouldNotBeWrittenIsWrittenLater) {
  Submit("a");
  // A directory is in the way of the file.
  std::filesystem::create_directories(Path("a"));
  FakeWorker worker(manager_.get());
  worker.ReportStep(worker.last(), 1, 0.5);
  worker.Succeed(worker.last(), AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
  std::filesystem::remove(Path("a"));
  EXPECT_TRUE(IsUpToDate("a"));
}

TEST_F(EventFilesTest, LeaveTheRestOfANearlyFullDiskToTheLogs) {
  files_.reset();
  StartFiles(std::numeric_limits<int64_t>::max());
  Submit("a");
  FakeWorker worker(manager_.get());
  worker.Succeed(worker.last(), AddBlob("weights"));
  EXPECT_EQ(Job("a").state(), v1::SUCCEEDED);
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(Path("a")); }));
  files_.reset();
  EXPECT_EQ(Bytes(Path("a")), "");
  StartFiles();
  EXPECT_TRUE(IsUpToDate("a"));
}

TEST_F(EventFilesTest, GoWithTheirJobWhoseIdMayBeUsedAgain) {
  FakeWorker worker(manager_.get());
  for (int round = 0; round < 20; ++round) {
    Submit("a");
    const v1::ServerMessage assigned = worker.last();
    worker.ReportStep(assigned, 1, round);
    if (round % 2 == 0) {
      EXPECT_TRUE(IsUpToDate("a"));
    }
    worker.Fail(assigned, "enough");
    ASSERT_TRUE(manager_->Delete("a").ok());
    EXPECT_FALSE(std::filesystem::exists(RunDirectory("a"))) << round;
  }
  Submit("a");
  worker.ReportStep(worker.last(), 1, 1000);
  EXPECT_TRUE(IsUpToDate("a"));
}

}  // namespace
}  // namespace lockstep
