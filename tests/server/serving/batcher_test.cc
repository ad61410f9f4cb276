#include "server/serving/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "tests/server/serving/puppets.h"
#include "tests/server/telemetry/figure.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A request of `samples` rows, its answer, and the wish to have it.
class Client {
 public:
  explicit Client(int64_t samples, float first = 0) : samples_(samples), x_(2 * samples) {
    std::iota(x_.begin(), x_.end(), first);
  }

  void Submit(Batcher& batcher) {
    batcher.Submit(
        {.samples = samples_,
         .x = {std::as_bytes(std::span(x_))},
         .wanted = [this] { return gone_ ? absl::CancelledError("gone") : absl::OkStatus(); },
         .done =
             [this](Batcher::Answer answer) {
               answer_ = std::move(answer);
               answered_.Notify();
             }});
  }
  void Leave() { gone_ = true; }

  bool answered() const { return answered_.HasBeenNotified(); }
  const Batcher::Answer& answer() {
    answered_.WaitForNotification();
    return answer_;
  }
  // What PuppetNetwork makes of the rows.
  std::vector<float> expected() const {
    std::vector<float> y;
    for (int64_t i = 0; i < samples_; ++i) {
      y.insert(y.end(), {x_[2 * i] + x_[2 * i + 1], x_[2 * i] - x_[2 * i + 1], 1});
    }
    return y;
  }

 private:
  const int64_t samples_;
  std::vector<float> x_;
  std::atomic<bool> gone_ = false;
  Batcher::Answer answer_ = absl::UnknownError("no answer yet");
  absl::Notification answered_;
};

class BatcherTest : public ::testing::Test {
 protected:
  void Start(Batcher::Options options) { batcher_ = std::make_unique<Batcher>(&network_, options); }
  // Keeps the batch thread busy with a request of one sample until the turnstile opens.
  void Occupy() {
    strings_.turnstile.Close();
    occupant_.Submit(*batcher_);
    strings_.turnstile.AwaitArrival();
  }

  Strings strings_;
  PuppetNetwork network_{&strings_, 1};
  Client occupant_{1};
  std::unique_ptr<Batcher> batcher_;
};

void ExpectRight(Client& client) {
  ASSERT_TRUE(client.answer().ok()) << client.answer().status();
  EXPECT_EQ(*client.answer(), client.expected());
}

TEST_F(BatcherTest, ALoneRequestWaitsForNobody) {
  Start({});
  Client client(3);
  client.Submit(*batcher_);
  ExpectRight(client);
  EXPECT_THAT(strings_.Passes(), ElementsAre(3));
}

TEST_F(BatcherTest, WhatWaitsSharesOnePassAndEachGetsItsRows) {
  Start({});
  Occupy();
  Client two(2, 10), none(0), three(3, 20);
  for (Client* client : {&two, &none, &three}) client->Submit(*batcher_);
  strings_.turnstile.Open();
  for (Client* client : {&occupant_, &two, &none, &three}) ExpectRight(*client);
  EXPECT_THAT(strings_.Passes(), ElementsAre(1, 5));
}

TEST_F(BatcherTest, ARequestWithoutSamplesNeedsNoPass) {
  Start({});
  Client none(0);
  none.Submit(*batcher_);
  ExpectRight(none);
  EXPECT_THAT(strings_.Passes(), ElementsAre());
}

TEST_F(BatcherTest, AFullQueueRefusesAtOnceAndLosesNothing) {
  Start({.max_queued_requests = 2});
  Occupy();
  Client first(1, 1), second(1, 2), third(1, 3);
  for (Client* client : {&first, &second, &third}) client->Submit(*batcher_);
  ASSERT_TRUE(third.answered()) << "while the batch thread is still held";
  EXPECT_EQ(third.answer().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.answer().status().message()), HasSubstr("2 requests"));
  EXPECT_FALSE(first.answered());
  strings_.turnstile.Open();
  for (Client* client : {&occupant_, &first, &second}) ExpectRight(*client);
}

TEST_F(BatcherTest, WaitingBytesAreBoundedButALoneRequestIsTaken) {
  Start({.max_queued_bytes = 2 * 8});
  Occupy();
  Client large(3, 1), small(1, 2);
  large.Submit(*batcher_);  // more than may wait, but nothing waits
  small.Submit(*batcher_);
  ASSERT_TRUE(small.answered());
  EXPECT_EQ(small.answer().status().code(), absl::StatusCode::kResourceExhausted);
  strings_.turnstile.Open();
  ExpectRight(large);
  // What has been taken from the queue no longer counts.
  Client later(2, 3);
  later.Submit(*batcher_);
  ExpectRight(later);
}

TEST_F(BatcherTest, ALargeRequestTakesSeveralPassesAndSharesTheLast) {
  Start({.max_batch_samples = 4});
  Occupy();
  Client large(10, 1), small(1, 50), next(3, 60);
  for (Client* client : {&large, &small, &next}) client->Submit(*batcher_);
  strings_.turnstile.Open();
  for (Client* client : {&large, &small, &next}) ExpectRight(*client);
  EXPECT_THAT(strings_.Passes(), ElementsAre(1, 4, 4, 4, 2));
}

TEST_F(BatcherTest, NothingIsComputedForThoseWhoHaveGone) {
  Start({});
  Occupy();
  Client gone(5), there(2, 7);
  gone.Submit(*batcher_);
  there.Submit(*batcher_);
  gone.Leave();
  strings_.turnstile.Open();
  ExpectRight(there);
  EXPECT_EQ(gone.answer().status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(strings_.Passes(), ElementsAre(1, 2));
}

TEST_F(BatcherTest, ALargeRequestEndsBetweenPassesWhenItsClientGoes) {
  Start({.max_batch_samples = 4});
  Client large(1000);
  strings_.turnstile.Close();
  large.Submit(*batcher_);
  strings_.turnstile.AwaitArrival();
  large.Leave();
  strings_.turnstile.Open();
  EXPECT_EQ(large.answer().status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(strings_.Passes(), ElementsAre(4));
}

TEST_F(BatcherTest, TheEndAnswersWhatWaits) {
  Start({.max_batch_samples = 4});
  Occupy();
  Client large(9, 3), small(1, 1);
  large.Submit(*batcher_);
  small.Submit(*batcher_);
  strings_.turnstile.Open();
  batcher_.reset();
  for (Client* client : {&occupant_, &large, &small}) {
    ASSERT_TRUE(client->answered());
    ExpectRight(*client);
  }
}

TEST_F(BatcherTest, CountsThePassesBySizeAndWhatWaited) {
  Metrics metrics;
  Start({.max_batch_samples = 4, .metrics = &metrics});
  Occupy();
  Client two(2, 10), none(0), three(3, 20);
  for (Client* client : {&two, &none, &three}) client->Submit(*batcher_);
  strings_.turnstile.Open();
  batcher_.reset();
  EXPECT_THAT(strings_.Passes(), ElementsAre(1, 4, 1));
  EXPECT_EQ(Figure(metrics, "lockstep_inference_batch_size_bucket{le=\"1\"}"), 2);
  EXPECT_EQ(Figure(metrics, "lockstep_inference_batch_size_bucket{le=\"4\"}"), 3);
  EXPECT_EQ(Figure(metrics, "lockstep_inference_batch_size_sum"), 6);
  EXPECT_EQ(Figure(metrics, "lockstep_inference_queue_seconds_count"), 4);
}

}  // namespace
}  // namespace lockstep
