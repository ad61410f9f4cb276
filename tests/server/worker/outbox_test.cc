#include "server/worker/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

v1::WorkerMessage Report(int64_t step, size_t size = 10) {
  v1::WorkerMessage message;
  message.mutable_report()->add_events()->mutable_text()->set_text(
      absl::StrCat(step, std::string(size, ' ')));
  return message;
}

v1::WorkerMessage Outcome() {
  v1::WorkerMessage message;
  message.mutable_outcome()->set_yielded(true);
  return message;
}

class OutboxTest : public testing::Test {
 protected:
  OutboxTest() { outbox_.Begin("job", 3); }

  v1::WorkerMessage Next(Outbox& outbox) {
    const absl::StatusOr<Outbox::Item> item = outbox.Next();
    EXPECT_TRUE(item.ok()) << item.status();
    return item.ok() ? item->message : v1::WorkerMessage();
  }
  v1::WorkerMessage Next() { return Next(outbox_); }

  TemporaryDirectory directory_;
  Outbox outbox_{directory_.path()};
};

TEST_F(OutboxTest, AThousandReportsThatWaitBecomeAFewMessagesInOrder) {
  for (int64_t step = 0; step < 1000; ++step) outbox_.Push(Report(step));
  outbox_.Push(Outcome());
  int64_t step = 0;
  int64_t number = 0;
  for (v1::WorkerMessage message = Next(); !message.has_outcome(); message = Next()) {
    EXPECT_EQ(message.job_id(), "job");
    EXPECT_EQ(message.attempt(), 3);
    EXPECT_EQ(message.number(), ++number);
    EXPECT_LE(message.report().events_size(), Outbox::kMaxEvents);
    for (const v1::Event& event : message.report().events()) {
      EXPECT_TRUE(event.text().text().starts_with(absl::StrCat(step++, " ")));
    }
  }
  EXPECT_EQ(step, 1000);
  EXPECT_EQ(number, 4);
}

TEST_F(OutboxTest, AMergedReportIsNotLargerThanItMayBeAndOtherMessagesKeepTheirPlace) {
  for (int64_t step = 0; step < 5; ++step) outbox_.Push(Report(step, 100'000));
  v1::WorkerMessage checkpoint;
  checkpoint.mutable_checkpoint()->set_step(5);
  outbox_.Push(checkpoint);
  outbox_.Push(Report(6));
  EXPECT_EQ(Next().report().events_size(), 2);
  EXPECT_EQ(Next().report().events_size(), 2);
  EXPECT_EQ(Next().report().events_size(), 1);
  EXPECT_EQ(Next().checkpoint().step(), 5);
  EXPECT_EQ(Next().report().events_size(), 1);
}

TEST_F(OutboxTest, WhatHasNotBeenAcknowledgedComesAgainWithItsNumberAndBytes) {
  std::vector<std::string> sent;
  for (int64_t step = 0; step < 5; ++step) {
    outbox_.Push(Report(step));
    sent.push_back(Next().SerializeAsString());
  }
  EXPECT_FALSE(outbox_.Acknowledge(2));
  outbox_.Interrupt();
  EXPECT_TRUE(absl::IsCancelled(outbox_.Next().status()));
  outbox_.Push(Report(5));  // is not merged into one that has been sent
  outbox_.Rewind();
  for (size_t i = 2; i < sent.size(); ++i) EXPECT_EQ(Next().SerializeAsString(), sent[i]);
  EXPECT_EQ(Next().number(), 6);
}

TEST_F(OutboxTest, ASlowServerHasAWindowfulOnItsWayAndTheRestIsMerged) {
  for (int64_t step = 0; step < Outbox::kWindow; ++step) {
    outbox_.Push(Report(step));
    EXPECT_EQ(Next().report().events_size(), 1);
  }
  for (int64_t step = 0; step < 100; ++step) outbox_.Push(Report(step));
  v1::WorkerMessage next;
  std::thread sender([&] { next = Next(); });
  for (int64_t step = 0; step < 100; ++step) outbox_.Push(Report(step));
  outbox_.Acknowledge(1);
  sender.join();
  EXPECT_EQ(next.number(), Outbox::kWindow + 1);
  EXPECT_EQ(next.report().events_size(), 200);
}

TEST_F(OutboxTest, WhatIsDroppedDoesNotComeAgainAndNumbersGoOn) {
  auto bytes = std::make_shared<const std::string>("weights");
  outbox_.Push(Report(1));
  EXPECT_EQ(Next().number(), 1);
  outbox_.Push(Outcome(), bytes);
  EXPECT_TRUE(outbox_.HoldsBytes());
  EXPECT_TRUE(outbox_.Drop());
  EXPECT_FALSE(outbox_.HoldsBytes());
  outbox_.Push(Outcome());
  outbox_.Push(Report(2));  // too late
  const v1::WorkerMessage outcome = Next();
  EXPECT_TRUE(outcome.has_outcome());
  EXPECT_TRUE(outbox_.Acknowledge(outcome.number()));
}

TEST_F(OutboxTest, WithoutADiskTrainingWaitsAndNothingIsLost) {
  constexpr int64_t kReports = 200;  // of 100 kB: five times what fits into memory
  Outbox outbox("/no such directory");
  outbox.Begin("job", 1);
  std::thread training([&] {
    for (int64_t step = 0; step < kReports; ++step) outbox.Push(Report(step, 100'000));
    outbox.Push(Outcome());
  });
  int64_t step = 0;
  for (bool over = false; !over;) {
    const v1::WorkerMessage message = Next(outbox);
    for (const v1::Event& event : message.report().events()) {
      EXPECT_TRUE(event.text().text().starts_with(absl::StrCat(step++, " ")));
    }
    over = outbox.Acknowledge(message.number());
  }
  EXPECT_EQ(step, kReports);
  training.join();
}

}  // namespace
}  // namespace lockstep
