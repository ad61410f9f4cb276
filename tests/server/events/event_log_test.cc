#include "server/events/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

v1::Event StepEvent(int64_t step, double loss, double step_ms = 1) {
  v1::Event event;
  event.mutable_step()->set_step(step);
  v1::MetricSummary* metric = event.mutable_step()->add_metrics();
  metric->set_name("loss");
  metric->set_last(loss);
  event.mutable_step()->mutable_timing()->set_step_ms(step_ms);
  return event;
}

v1::Event EpochEvent(int64_t epoch, const std::string& hash) {
  v1::Event event;
  event.mutable_epoch()->set_epoch(epoch);
  event.mutable_epoch()->set_state_hash(hash);
  return event;
}

v1::Event TextEvent(const std::string& text) {
  v1::Event event;
  event.mutable_text()->set_text(text);
  return event;
}

class EventLogTest : public testing::Test {
 protected:
  EventLogTest() { Reopen(); }

  // As a server does that was killed and started again.
  void Reopen() {
    log_.reset();
    absl::StatusOr<std::unique_ptr<EventLog>> log = EventLog::Open(path_);
    ASSERT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
  }

  absl::Status Append(v1::Event event) { return log_->Append({&event, 1}); }

  std::vector<v1::Event> All() {
    absl::StatusOr<EventLog::Batch> batch = log_->Read(1, 1 << 20);
    EXPECT_TRUE(batch.ok()) << batch.status();
    return batch.ok() ? batch->events : std::vector<v1::Event>();
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "runs/j/events.log";
  std::unique_ptr<EventLog> log_;
};

TEST_F(EventLogTest, NumbersWithoutHolesAlsoAfterReopening) {
  std::vector<v1::Event> events = {TextEvent("a"), StepEvent(1, 0.5), TextEvent("b")};
  ASSERT_TRUE(log_->Append(events).ok());
  EXPECT_EQ(events[2].sequence(), 3);
  Reopen();
  EXPECT_EQ(log_->last_sequence(), 3);
  ASSERT_TRUE(Append(TextEvent("c")).ok());
  const std::vector<v1::Event> all = All();
  ASSERT_EQ(all.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(all[i].sequence(), i + 1);
    EXPECT_GT(all[i].time().seconds(), 1'600'000'000);
  }
  EXPECT_EQ(all[3].text().text(), "c");
}

TEST_F(EventLogTest, ReadsFromAnySequenceUpToALimit) {
  for (int i = 1; i <= 5; ++i) ASSERT_TRUE(Append(TextEvent(absl::StrCat(i))).ok());
  absl::StatusOr<EventLog::Batch> batch = log_->Read(2, 3);
  ASSERT_TRUE(batch.ok());
  ASSERT_EQ(batch->events.size(), 3u);
  EXPECT_EQ(batch->events[0].text().text(), "2");
  EXPECT_FALSE(batch->end);
  EXPECT_TRUE(log_->Read(6, 10)->events.empty());
  EXPECT_FALSE(log_->Read(6, 10)->end);

  ASSERT_TRUE(log_->Close().ok());
  EXPECT_FALSE(log_->Read(1, 4)->end);
  EXPECT_TRUE(log_->Read(1, 5)->end);
  EXPECT_TRUE(log_->Read(6, 10)->end);
  EXPECT_TRUE(absl::IsFailedPrecondition(Append(TextEvent("late"))));
}

// A crash may stop the writing of the last record at any byte.
TEST_F(EventLogTest, CutsATornTailWhereverItIsTorn) {
  ASSERT_TRUE(Append(TextEvent("first")).ok());
  ASSERT_TRUE(Append(TextEvent("second")).ok());
  const auto whole = std::filesystem::file_size(path_);
  for (auto size = whole + 1;; ++size) {
    ASSERT_TRUE(Append(TextEvent("torn")).ok());
    if (size >= std::filesystem::file_size(path_)) break;  // records differ a little in length
    std::filesystem::resize_file(path_, size);
    Reopen();
    ASSERT_EQ(log_->last_sequence(), 2) << "torn at byte " << size;
    ASSERT_EQ(std::filesystem::file_size(path_), whole);
  }
  ASSERT_TRUE(Append(TextEvent("third")).ok());
  Reopen();
  EXPECT_EQ(All().back().text().text(), "third");
}

TEST_F(EventLogTest, CutsATailThatIsDamagedOrZero) {
  ASSERT_TRUE(Append(TextEvent("kept")).ok());
  const auto whole = std::filesystem::file_size(path_);
  std::filesystem::resize_file(path_, whole + 4096);
  Reopen();
  EXPECT_EQ(log_->last_sequence(), 1);
  EXPECT_EQ(std::filesystem::file_size(path_), whole);

  ASSERT_TRUE(Append(TextEvent("damaged")).ok());
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(whole) + 12);
    file.put('\x55');
  }
  Reopen();
  EXPECT_EQ(log_->last_sequence(), 1);
}

TEST_F(EventLogTest, DropsWhatAnEarlierAttemptLogged) {
  ASSERT_TRUE(Append(StepEvent(10, 0.5)).ok());
  ASSERT_TRUE(Append(StepEvent(20, std::numeric_limits<double>::quiet_NaN())).ok());
  ASSERT_TRUE(Append(EpochEvent(1, "hash")).ok());
  Reopen();
  std::vector<v1::Event> replay = {TextEvent("attempt 2"), StepEvent(10, 0.5, /*step_ms=*/7),
                                   StepEvent(20, std::numeric_limits<double>::quiet_NaN()),
                                   EpochEvent(1, "hash"), StepEvent(30, 0.25)};
  ASSERT_TRUE(log_->Append(replay).ok());
  EXPECT_EQ(replay[1].sequence(), 0);
  EXPECT_EQ(replay[4].sequence(), 5);
  const std::vector<v1::Event> all = All();
  ASSERT_EQ(all.size(), 5u);
  EXPECT_EQ(all[0].step().timing().step_ms(), 1) << "the first run's record stays";
  EXPECT_EQ(all[3].text().text(), "attempt 2");
  EXPECT_EQ(all[4].step().step(), 30);
}

TEST_F(EventLogTest, RefusesAReplayWithOtherBits) {
  ASSERT_TRUE(Append(StepEvent(10, 0.5)).ok());
  ASSERT_TRUE(Append(StepEvent(20, 0.0)).ok());
  ASSERT_TRUE(Append(EpochEvent(1, "hash")).ok());
  const struct {
    v1::Event event;
    std::string names;
  } cases[] = {
      {StepEvent(10, 0.5 + 1e-16), "step 10"},  // one unit in the last place
      {StepEvent(20, -0.0), "step 20"},
      {StepEvent(15, 0.5), "step 15"},  // the run before had no such record
      {EpochEvent(1, "other"), "epoch 1"},
  };
  for (const auto& c : cases) {
    std::vector<v1::Event> events = {TextEvent("before it"), c.event};
    const absl::Status status = log_->Append(events);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.names));
    EXPECT_EQ(log_->last_sequence(), 3);
  }
}

TEST_F(EventLogTest, RefusesAnEventOfUnreasonableSize) {
  EXPECT_TRUE(absl::IsInvalidArgument(Append(TextEvent(std::string(2 << 20, 'x')))));
  EXPECT_EQ(log_->last_sequence(), 0);
  ASSERT_TRUE(Append(TextEvent("fine")).ok());
}

// A disk that fills in the middle of a record leaves no half of it before those that follow.
TEST_F(EventLogTest, GoesOnAfterAFailedWrite) {
  ASSERT_TRUE(Append(TextEvent("first")).ok());
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = std::filesystem::file_size(path_) + 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  EXPECT_FALSE(Append(TextEvent("does not fit any more")).ok());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(log_->last_sequence(), 1);
  ASSERT_TRUE(Append(TextEvent("second")).ok());
  Reopen();
  ASSERT_EQ(log_->last_sequence(), 2);
  EXPECT_EQ(All()[1].text().text(), "second");
}

TEST_F(EventLogTest, NotifiesOnceThereIsSomethingToRead) {
  ASSERT_TRUE(Append(TextEvent("1")).ok());
  int calls = 0;
  log_->NotifyFrom(1, [&] { ++calls; });
  EXPECT_EQ(calls, 1) << "at once: it is there";
  log_->NotifyFrom(3, [&] { ++calls; });
  ASSERT_TRUE(Append(TextEvent("2")).ok());
  EXPECT_EQ(calls, 1);
  ASSERT_TRUE(Append(TextEvent("3")).ok());
  EXPECT_EQ(calls, 2);
  ASSERT_TRUE(Append(TextEvent("4")).ok());
  EXPECT_EQ(calls, 2) << "once only";

  const int64_t ticket = log_->NotifyFrom(5, [&] { ++calls; });
  log_->NotifyFrom(99, [&] { calls += 10; });
  log_->CancelNotify(ticket);
  log_->CancelNotify(ticket);  // harmless
  ASSERT_TRUE(log_->Close().ok());
  EXPECT_EQ(calls, 12) << "the end wakes everybody, but not who has cancelled";
}

// So that what `ready` uses can be destroyed after CancelNotify.
TEST_F(EventLogTest, CancelWaitsForACallUnderWay) {
  absl::Notification entered, leave;
  std::atomic<bool> left = false;
  const int64_t ticket = log_->NotifyFrom(1, [&] {
    entered.Notify();
    leave.WaitForNotification();
    left = true;
  });
  std::thread writer([&] { EXPECT_TRUE(Append(TextEvent("1")).ok()); });
  entered.WaitForNotification();
  std::thread releaser([&] { leave.Notify(); });
  log_->CancelNotify(ticket);
  EXPECT_TRUE(left);
  writer.join();
  releaser.join();
}

// The loop that a watching stream runs: read, else wait, until the end.
TEST_F(EventLogTest, ManyWatchersSeeEveryEventInOrder) {
  constexpr int kWatchers = 16;
  constexpr int kEvents = 200;
  std::vector<std::thread> watchers;
  for (int w = 0; w < kWatchers; ++w) {
    watchers.emplace_back([&, w] {
      int64_t next = 1 + w;
      while (true) {
        absl::StatusOr<EventLog::Batch> batch = log_->Read(next, 1 + w % 5);
        ASSERT_TRUE(batch.ok()) << batch.status();
        for (const v1::Event& event : batch->events) {
          ASSERT_EQ(event.sequence(), next);
          ASSERT_EQ(event.text().text(), absl::StrCat(next));
          ++next;
        }
        if (batch->end) break;
        if (!batch->events.empty()) continue;
        absl::Notification ready;
        log_->NotifyFrom(next, [&] { ready.Notify(); });
        ready.WaitForNotification();
      }
      EXPECT_EQ(next, kEvents + 1);
    });
  }
  for (int i = 1; i <= kEvents; ++i) ASSERT_TRUE(Append(TextEvent(absl::StrCat(i))).ok());
  ASSERT_TRUE(log_->Close().ok());
  for (std::thread& watcher : watchers) watcher.join();
}

}  // namespace
}  // namespace lockstep
