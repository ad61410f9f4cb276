#include "server/web/event_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

namespace asio = boost::asio;

// What a browser would have made of the text that one watcher was sent.
struct Received {
  std::vector<int64_t> ids;
  bool end = false;
  absl::Status status;
};

void Parse(absl::string_view text, Received* received) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    int64_t id = 0;
    if (absl::StartsWith(line, "id: ") && absl::SimpleAtoi(line.substr(4), &id)) {
      received->ids.push_back(id);
    }
    if (line == "event: end") received->end = true;
  }
}

// The server's one thread for HTTP is the test's: a watcher moves only while Run() does.
class EventHubTest : public testing::Test {
 protected:
  EventHubTest() {
    absl::StatusOr<std::unique_ptr<EventLog>> log = EventLog::Open(directory_ / "events.log");
    EXPECT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
  }

  // Step records and texts, one after the other.
  void Append(int count) {
    std::vector<v1::Event> events(static_cast<size_t>(count));
    for (v1::Event& event : events) {
      ++appended_;
      if (appended_ % 2 == 0) {
        event.mutable_text()->set_text(absl::StrCat("line ", appended_));
      } else {
        event.mutable_step()->set_step(appended_);
      }
    }
    const absl::Status status = log_->Append(events);
    ASSERT_TRUE(status.ok()) << status;
  }

  // Reads pieces until the end, or as many.
  void Spawn(EventHub::Watch& watch, Received* received, int pieces = 1 << 30) {
    asio::co_spawn(
        io_, [&watch, received, pieces] { return Receive(watch, received, pieces); },
        asio::detached);
  }

  // Until all that was spawned has come to its end.
  void Run() {
    io_.restart();
    io_.run_for(std::chrono::minutes(1));
    ASSERT_TRUE(io_.stopped()) << "somebody waits for what never comes";
  }

  static asio::awaitable<void> Receive(EventHub::Watch& watch, Received* received, int pieces) {
    for (int i = 0; i < pieces && !received->end; ++i) {
      const absl::StatusOr<EventHub::Piece> piece = co_await watch.Next();
      if (!piece.ok()) {
        received->status = piece.status();
        co_return;
      }
      Parse(absl::string_view(*piece->text).substr(piece->offset), received);
    }
  }

  std::vector<int64_t> Numbers(int64_t first, int64_t step = 1) const {
    std::vector<int64_t> numbers;
    for (int64_t i = first; i <= appended_; i += step) numbers.push_back(i);
    return numbers;
  }

  TemporaryDirectory directory_;
  std::shared_ptr<EventLog> log_;
  int64_t appended_ = 0;
  asio::io_context io_;
  Executor executor_{2};
  EventHub hub_{io_, executor_};
};

TEST_F(EventHubTest, EachOfFiftyWatchersGetsEveryEventOnceWhereverItComesIn) {
  std::vector<std::unique_ptr<EventHub::Watch>> watches;
  std::vector<Received> received(50);
  std::vector<int64_t> firsts;
  for (size_t i = 0; i < received.size(); ++i) {
    if (i % 10 == 0) Append(100);  // some of it is old news to those who come in later
    const int64_t first = i % 3 == 0 ? appended_ + 1 : 1 + static_cast<int64_t>(i);
    firsts.push_back(first);
    watches.push_back(std::make_unique<EventHub::Watch>(hub_, EventStreamAnswer{log_, first, 0}));
    Spawn(*watches.back(), &received[i]);
    io_.poll();
  }
  for (int burst = 0; burst < 5; ++burst) {
    Append(137);
    io_.run_for(std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(log_->Close().ok());
  Run();
  for (size_t i = 0; i < received.size(); ++i) {
    EXPECT_TRUE(received[i].status.ok()) << received[i].status;
    EXPECT_TRUE(received[i].end);
    EXPECT_EQ(received[i].ids, Numbers(firsts[i])) << "watcher " << i;
  }
}

TEST_F(EventHubTest, AWatcherThatHasReadAllIsToldOnlyThatItIsTheEnd) {
  // Somebody else's watch keeps the last events as text, the end with them.
  EventHub::Watch other(hub_, {log_, 1, 0});
  Received before;
  Spawn(other, &before);
  io_.poll();
  Append(3);
  ASSERT_TRUE(log_->Close().ok());
  Run();
  ASSERT_EQ(before.ids, Numbers(1));
  ASSERT_TRUE(before.end);

  EventHub::Watch resumed(hub_, {log_, appended_ + 1, 0});
  Received after;
  Spawn(resumed, &after);
  Run();
  EXPECT_TRUE(after.end);
  EXPECT_THAT(after.ids, testing::IsEmpty());
}

TEST_F(EventHubTest, AWatcherThatDidNotReadForLongMissesNothing) {
  EventHub::Watch stalled(hub_, {log_, 1, 0});
  EventHub::Watch keen(hub_, {log_, 1, 0});
  Received late;
  Received prompt;
  Spawn(stalled, &late, /*pieces=*/1);
  Spawn(keen, &prompt);
  Append(10);
  io_.run_for(std::chrono::milliseconds(20));
  for (int i = 0; i < 20; ++i) Append(500);  // far more than the hub keeps as text
  ASSERT_TRUE(log_->Close().ok());
  Run();
  EXPECT_EQ(prompt.ids, Numbers(1));
  ASSERT_LT(late.ids.size(), prompt.ids.size());
  Spawn(stalled, &late);
  Run();
  EXPECT_EQ(late.ids, prompt.ids);
}

TEST_F(EventHubTest, StepRecordsThatTheCurvesHoldAlreadyAreLeftOut) {
  EventHub::Watch watch(hub_, {log_, 1, /*steps_after=*/50});
  EventHub::Watch all(hub_, {log_, 1, 0});
  Received some;
  Received whole;
  Spawn(watch, &some);
  Spawn(all, &whole);
  Append(40);
  io_.run_for(std::chrono::milliseconds(20));
  Append(40);
  ASSERT_TRUE(log_->Close().ok());
  Run();
  EXPECT_EQ(whole.ids, Numbers(1));
  std::vector<int64_t> expected;
  for (int64_t i = 1; i <= appended_; ++i) {
    if (i % 2 == 0 || i > 50) expected.push_back(i);
  }
  EXPECT_EQ(some.ids, expected);
}

}  // namespace
}  // namespace lockstep
