// A watch delivers each event once, in order, over any number of broken connections.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "client/lib/client.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;

class FakeJobs final : public v1::JobService::Service {
 public:
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::Event>* writer) override {
    asked_from.push_back(request->from_sequence());
    if (refuse) return {grpc::StatusCode::NOT_FOUND, "no such job"};
    int sent = 0;
    for (int64_t sequence = request->from_sequence(); sequence <= events; ++sequence, ++sent) {
      if (sent == break_after && breaks-- > 0) return {break_code, "broken on purpose"};
      v1::Event event;
      event.set_sequence(sequence);
      writer->Write(event);
    }
    if (breaks-- > 0) return {break_code, "broken on purpose"};
    while (never_ends && !context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::OK;
  }

  int64_t events = 10;
  int break_after = -1;
  int breaks = 0;
  bool refuse = false;
  bool never_ends = false;
  grpc::StatusCode break_code = grpc::StatusCode::UNAVAILABLE;
  std::vector<int64_t> asked_from;
};

class EventStreamTest : public testing::Test {
 protected:
  // Sequence numbers of all that comes, and how it ended.
  std::vector<int64_t> ReadAll(EventStream& stream) {
    std::vector<int64_t> sequences;
    while (true) {
      absl::StatusOr<std::optional<v1::Event>> event = stream.Next();
      status_ = event.status();
      if (!event.ok() || !event->has_value()) return sequences;
      sequences.push_back((*event)->sequence());
    }
  }

  FakeJobs jobs_;
  FakeServer server_{{&jobs_}};
  std::unique_ptr<Client> client_ = server_.Connect();
  absl::Status status_;
};

TEST_F(EventStreamTest, StartsWhereItIsTold) {
  EXPECT_THAT(ReadAll(*client_->WatchJob("job", 8)), ElementsAre(8, 9, 10));
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(EventStreamTest, ZeroIsTheBeginning) {
  jobs_.events = 2;
  EXPECT_THAT(ReadAll(*client_->WatchJob("job", 0)), ElementsAre(1, 2));
}

TEST_F(EventStreamTest, ComesBackForTheNextEvent) {
  jobs_.break_after = 3;
  jobs_.breaks = 2;
  EXPECT_THAT(ReadAll(*client_->WatchJob("job", 1)), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_THAT(jobs_.asked_from, ElementsAre(1, 4, 7));
}

TEST_F(EventStreamTest, ServerThatStopsCancelsItsStreamsAndIsWaitedFor) {
  jobs_.break_code = grpc::StatusCode::CANCELLED;
  jobs_.break_after = 9;
  jobs_.breaks = 1;
  EXPECT_EQ(ReadAll(*client_->WatchJob("job", 1)).size(), 10u);
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(EventStreamTest, BreaksAfterTheLastEventAreMadeUpFor) {
  jobs_.events = 2;
  jobs_.breaks = 1;
  EXPECT_THAT(ReadAll(*client_->WatchJob("job", 1)), ElementsAre(1, 2));
  EXPECT_THAT(jobs_.asked_from, ElementsAre(1, 3));
}

TEST_F(EventStreamTest, GivesUpWithoutProgress) {
  jobs_.break_after = 0;
  jobs_.breaks = 1000;
  EXPECT_TRUE(ReadAll(*client_->WatchJob("job", 1)).empty());
  EXPECT_TRUE(absl::IsUnavailable(status_)) << status_;
  EXPECT_EQ(jobs_.asked_from.size(), 4u);  // once, and three attempts more
}

TEST_F(EventStreamTest, RefusalIsNotRetried) {
  jobs_.refuse = true;
  EXPECT_TRUE(ReadAll(*client_->WatchJob("job", 1)).empty());
  EXPECT_TRUE(absl::IsNotFound(status_)) << status_;
  EXPECT_EQ(jobs_.asked_from.size(), 1u);
}

TEST_F(EventStreamTest, CancelEndsAWaitingReader) {
  jobs_.never_ends = true;
  const std::unique_ptr<EventStream> stream = client_->WatchJob("job", 10);
  ASSERT_TRUE(stream->Next().ok());
  std::jthread canceller([&] { stream->Cancel(); });
  EXPECT_TRUE(ReadAll(*stream).empty());
  EXPECT_TRUE(absl::IsCancelled(status_)) << status_;
  EXPECT_EQ(stream->next_sequence(), 11);
}

TEST_F(EventStreamTest, NothingAtAnAddressIsUnavailable) {
  ClientOptions options;
  options.address = "127.0.0.1:1";
  EXPECT_TRUE(absl::IsUnavailable(Client::Connect(options).status()));
}

}  // namespace
}  // namespace lockstep
