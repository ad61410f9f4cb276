// A real worker against a server that does what a test wants: what is said again after a broken
// stream, what stops training, and whose fault an error is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/training/job_plan.h"
#include "server/worker/worker.h"
#include "tests/server/worker/scripted_server.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using Messages = ScriptedServer::Messages;
using testing::HasSubstr;

bool HasOutcome(const Messages& messages) { return messages.back().has_outcome(); }

const v1::CheckpointReport* FirstCheckpoint(const Messages& messages) {
  for (const v1::WorkerMessage& message : messages) {
    if (message.has_checkpoint()) return &message.checkpoint();
  }
  return nullptr;
}

int64_t LastStep(const Messages& messages) {
  int64_t step = 0;
  for (const v1::WorkerMessage& message : messages) {
    for (const v1::Event& event : message.report().events()) {
      if (event.has_step()) step = event.step().step();
    }
  }
  return step;
}

std::string Texts(const Messages& messages) {
  std::string texts;
  for (const v1::WorkerMessage& message : messages) {
    for (const v1::Event& event : message.report().events()) {
      if (event.has_text()) {
        texts +=
            v1::Text::Severity_Name(event.text().severity()) + ": " + event.text().text() + "\n";
      }
    }
  }
  return texts;
}

class WorkerLinkTest : public testing::Test {
 protected:
  void SetUp() override { Worker("secret"); }
  void TearDown() override { End(); }

  void Worker(const std::string& token) {
    WorkerOptions options;
    options.server = Address();
    options.token = [token] { return token; };
    options.cache_directory = directory_ / "cache";
    options.threads = 1;
    options.grace_seconds = 60;
    worker_ = std::thread([this, options] { exit_code_ = RunWorker(options); });
  }
  int End() {
    if (worker_.joinable()) {
      server_.Dismiss();
      worker_.join();
    }
    return exit_code_;
  }
  // Waits for the worker to end by itself.
  int Join() {
    worker_.join();
    return exit_code_;
  }

  void AddTensor(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
                 const std::string& bytes, v1::Dataset& dataset) {
    v1::Tensor& tensor = *dataset.add_tensors();
    tensor.set_name(name);
    tensor.set_dtype(dtype);
    tensor.mutable_shape()->Assign(shape.begin(), shape.end());
    tensor.mutable_blob()->set_sha256(Sha256(bytes));
    tensor.mutable_blob()->set_size_bytes(static_cast<int64_t>(bytes.size()));
    server_.SetBlob(tensor.blob().sha256(), bytes);
  }
  // 2 steps an epoch, a record each.
  v1::Assignment Job(int epochs) {
    v1::Assignment assignment;
    v1::Dataset& dataset = *assignment.mutable_train();
    dataset.set_name("tiny");
    AddTensor("x", "float32", {8, 4}, std::string(8 * 4 * sizeof(float), '\0'), dataset);
    AddTensor("y", "uint8", {8}, std::string("\0\1\2\0\1\2\0\1", 8), dataset);
    dataset.set_digest(DatasetDigest(dataset));
    v1::JobSpec& spec = *assignment.mutable_spec();
    spec.mutable_model()->add_inputs()->add_shape(4);
    v1::Dense& dense = *spec.mutable_model()->add_layers()->mutable_dense();
    dense.set_units(3);
    dense.set_activation("softmax");
    v1::DataSource& train = *spec.mutable_data()->mutable_train();
    train.set_dataset("tiny");
    train.add_x("x");
    train.add_y("y");
    spec.mutable_training()->set_batch_size(4);
    spec.mutable_training()->set_epochs(epochs);
    spec.mutable_training()->set_log_every(1);
    spec.mutable_training()->add_losses()->mutable_sparse_categorical_crossentropy();
    return assignment;
  }
  static constexpr int kForever = 100'000'000;

  // The test's words are about this assignment from now on.
  void Assign(const v1::Assignment& assignment) {
    v1::ServerMessage message;
    *message.mutable_assignment() = assignment;
    ++attempt_;
    Say(std::move(message));
  }
  void Say(v1::ServerMessage message) {
    message.set_job_id("job");
    message.set_attempt(attempt_);
    server_.Say(std::move(message));
  }
  void SayCancel() {
    v1::ServerMessage message;
    message.mutable_cancel();
    Say(std::move(message));
  }
  void SayYield() {
    v1::ServerMessage message;
    message.mutable_yield();
    Say(std::move(message));
  }
  void SayHold(bool on) {
    v1::ServerMessage message;
    message.mutable_hold()->set_on(on);
    Say(std::move(message));
  }

  Messages WaitFor(size_t stream, const std::function<bool(const Messages&)>& enough) {
    Messages messages = server_.WaitFor(stream, enough);
    EXPECT_TRUE(server_.complete()) << "only " << messages.size() << " messages came";
    if (messages.empty()) messages.emplace_back();
    return messages;
  }
  // The outcome of the attempt under way, on a stream.
  v1::Outcome Outcome(size_t stream = 0) {
    return WaitFor(stream,
                   [this](const Messages& messages) {
                     return HasOutcome(messages) && messages.back().attempt() == attempt_;
                   })
        .back()
        .outcome();
  }
  static bool Trains(const Messages& messages) { return LastStep(messages) > 0; }

  std::string Address() { return "unix:" + directory_ / "worker.sock"; }

  TemporaryDirectory directory_;
  ScriptedServer server_{Address()};
  int attempt_ = 0;
  int exit_code_ = -1;
  std::thread worker_;
};

TEST_F(WorkerLinkTest, WhatWasNotAcknowledgedIsSentAgainWithItsNumberAndNothingIsMissing) {
  server_.SetAcknowledge(false);
  Assign(Job(200));
  const Messages before = WaitFor(0, Trains);
  server_.BreakStream();
  server_.SetAcknowledge(true);
  const Messages after = WaitFor(1, HasOutcome);
  EXPECT_EQ(after[0].job_id(), "job");
  EXPECT_EQ(after[0].attempt(), 1);
  for (size_t i = 1; i < before.size(); ++i) {
    EXPECT_EQ(after[i].SerializeAsString(), before[i].SerializeAsString()) << i;
  }
  int64_t steps = 0;
  for (size_t i = 1; i < after.size(); ++i) {
    EXPECT_EQ(after[i].number(), static_cast<int64_t>(i));
    for (const v1::Event& event : after[i].report().events()) {
      if (event.has_step()) {
        EXPECT_EQ(event.step().step(), ++steps);
      }
    }
  }
  EXPECT_EQ(steps, 400);
  EXPECT_TRUE(after.back().outcome().has_success());
}

TEST_F(WorkerLinkTest, AHoldStopsStepsAndAYieldAfterItSavesTheLastOne) {
  Assign(Job(kForever));
  WaitFor(0, Trains);
  SayHold(true);
  SayYield();
  server_.WaitFor(0, HasOutcome, absl::Milliseconds(50));
  EXPECT_FALSE(server_.complete()) << "it went on although it was to wait";
  SayHold(false);
  const Messages messages = WaitFor(0, HasOutcome);
  EXPECT_TRUE(messages.back().outcome().yielded());
  const v1::CheckpointReport& checkpoint = messages[messages.size() - 2].checkpoint();
  EXPECT_EQ(checkpoint.step(), LastStep(messages));
  EXPECT_TRUE(server_.HasBlob(checkpoint.blob().sha256()));
}

TEST_F(WorkerLinkTest, AHoldEndsWithACancellationAndWithItsStream) {
  Assign(Job(kForever));
  WaitFor(0, Trains);
  SayHold(true);
  server_.BreakStream();
  WaitFor(1, [](const Messages&) { return true; });
  SayYield();
  EXPECT_TRUE(Outcome(1).yielded());
  Assign(Job(kForever));
  WaitFor(1, [this](const Messages& messages) { return messages.back().attempt() == attempt_; });
  SayHold(true);
  SayCancel();
  EXPECT_TRUE(Outcome(1).cancelled());
}

TEST_F(WorkerLinkTest, ABadNewestCheckpointIsNamedAndTheNextOneLeadsToTheSameBits) {
  Assign(Job(2000));
  const v1::Outcome undisturbed = Outcome();
  Assign(Job(2000));
  WaitFor(0, [&](const Messages& messages) {
    return messages.back().attempt() == attempt_ && messages.back().has_report();
  });
  SayYield();
  ASSERT_TRUE(Outcome().yielded());
  const Messages messages = server_.WaitFor(0, HasOutcome);
  v1::Assignment again = Job(2000);
  v1::Checkpoint& bad = *again.add_checkpoints();
  v1::Checkpoint& good = *again.add_checkpoints();
  ASSERT_NE(FirstCheckpoint(messages), nullptr);
  *good.mutable_blob() = FirstCheckpoint(messages)->blob();
  good.set_step(FirstCheckpoint(messages)->step());
  bad = good;
  bad.set_step(good.step() + 1);
  bad.mutable_blob()->set_sha256(std::string(64, 'a'));
  server_.SetBlob(bad.blob().sha256(), std::string(good.blob().size_bytes(), 'x'));
  Assign(again);
  EXPECT_EQ(Outcome().success().state_hash(), undisturbed.success().state_hash());
  const std::string texts = Texts(server_.WaitFor(0, HasOutcome));
  EXPECT_THAT(
      texts, HasSubstr(absl::StrCat("WARNING: cannot use the checkpoint of step ", bad.step(), " (",
                                    bad.blob().sha256(), "): its bytes")));
  EXPECT_THAT(texts,
              HasSubstr(absl::StrCat("INFO: goes on from the checkpoint of step ", good.step())));
}

TEST_F(WorkerLinkTest, ACheckpointThatTheServerCannotReadIsNotTheJobsFault) {
  v1::Assignment assignment = Job(1);
  v1::Checkpoint& checkpoint = *assignment.add_checkpoints();
  checkpoint.mutable_blob()->set_sha256(std::string(64, 'a'));
  server_.FailReadsOf(checkpoint.blob().sha256(), grpc::StatusCode::INTERNAL);
  Assign(assignment);
  EXPECT_EQ(Join(), kWorkerBadCache);
  const Messages messages = server_.WaitFor(0, [](const Messages&) { return true; });
  EXPECT_FALSE(HasOutcome(messages));
}

TEST_F(WorkerLinkTest, WeightsThatTheServerDoesNotTakeAtOnceAreOfferedAgain) {
  server_.FailUploads(1, grpc::StatusCode::INTERNAL);
  Assign(Job(1));
  const v1::Outcome outcome = Outcome();
  EXPECT_TRUE(outcome.has_success()) << outcome.failure();
  EXPECT_TRUE(server_.HasBlob(outcome.success().weights().sha256()));
}

TEST_F(WorkerLinkTest, WeightsThatAreRefusedTwiceFailTheJob) {
  server_.FailUploads(2, grpc::StatusCode::INVALID_ARGUMENT);
  Assign(Job(1));
  EXPECT_THAT(Outcome().failure(), HasSubstr("as the test wants it"));
}

TEST_F(WorkerLinkTest, ABlobThatTheServerLostBeforeItsMessageCountedIsUploadedAgain) {
  server_.SetAcknowledge(false);
  Assign(Job(1));
  const std::string weights = Outcome().success().weights().sha256();
  server_.LoseBlob(weights);
  server_.BreakStream();
  EXPECT_EQ(Outcome(1).success().weights().sha256(), weights);
  EXPECT_TRUE(server_.HasBlob(weights));
}

TEST_F(WorkerLinkTest, ACancellationBreaksOffAnUpload) {
  server_.BlockUploads();
  Assign(Job(1));
  ASSERT_TRUE(server_.WaitForUpload());
  SayCancel();
  EXPECT_TRUE(Outcome().cancelled());
}

TEST_F(WorkerLinkTest, AStaleAttemptIsCancelledWhenItComesBackAndThereIsNewWork) {
  Assign(Job(kForever));
  WaitFor(0, Trains);
  server_.BreakStream();
  WaitFor(1, [](const Messages&) { return true; });
  SayCancel();
  EXPECT_TRUE(Outcome(1).cancelled());
  Assign(Job(1));
  EXPECT_TRUE(Outcome(1).has_success());
}

TEST_F(WorkerLinkTest, JobsOverTheirLimitsFailAndSayWhichOne) {
  v1::Assignment slow = Job(kForever);
  slow.mutable_spec()->mutable_resources()->set_max_seconds(60);
  slow.set_seconds_left(1e-9);
  Assign(slow);
  EXPECT_EQ(Outcome().failure(), "over the limit: ran for resources.max_seconds (60 s)");
  v1::Assignment large = Job(kForever);
  v1::Layer output = large.spec().model().layers(0);
  large.mutable_spec()->mutable_model()->mutable_layers(0)->mutable_dense()->set_units(1'000'000);
  *large.mutable_spec()->mutable_model()->add_layers() = output;
  large.mutable_spec()->mutable_resources()->set_max_memory_bytes(1'000'000);
  Assign(large);
  EXPECT_THAT(Outcome().failure(),
              testing::MatchesRegex("over the limit: the job uses [0-9]+ MB of memory, "
                                    "resources.max_memory_bytes allows 1.*"));
}

TEST_F(WorkerLinkTest, CheckpointsComeAtTheStepsAskedForAndEachNamesTheOneBefore) {
  v1::Assignment assignment = Job(kForever);
  assignment.mutable_spec()->mutable_checkpoints()->set_every_steps(3);
  Assign(assignment);
  const auto three_checkpoints = [](const Messages& messages) {
    return std::count_if(messages.begin(), messages.end(),
                         [](const auto& message) { return message.has_checkpoint(); }) >= 3;
  };
  std::string previous;
  int64_t step = 0;
  for (const v1::WorkerMessage& message : WaitFor(0, three_checkpoints)) {
    if (!message.has_checkpoint()) continue;
    if (step == 0) {
      EXPECT_EQ(message.checkpoint().step(), 3) << "nothing else was being saved";
    }
    EXPECT_GT(message.checkpoint().step(), step);
    step = message.checkpoint().step();
    EXPECT_EQ(step % 3, 0);
    EXPECT_EQ(message.checkpoint().previous_sha256(), previous);
    previous = message.checkpoint().blob().sha256();
  }
  EXPECT_GT(step, 3);
}

TEST_F(WorkerLinkTest, KeepBestSavesAfterAnEpoch) {
  v1::Assignment assignment = Job(10);
  assignment.mutable_spec()->mutable_checkpoints()->set_keep_best("loss");
  Assign(assignment);
  const Messages messages = WaitFor(0, HasOutcome);
  ASSERT_NE(FirstCheckpoint(messages), nullptr);
  EXPECT_EQ(FirstCheckpoint(messages)->step(), 2);
}

TEST_F(WorkerLinkTest, AWorkerThatHasBeenInTriesAgainWhenItsTokenIsRefused) {
  Assign(Job(kForever));
  WaitFor(0, Trains);
  server_.SetToken("not yet written");
  server_.BreakStream();
  ASSERT_TRUE(server_.WaitForRefusal());
  server_.SetToken("secret");
  EXPECT_EQ(WaitFor(1, [](const Messages&) { return true; })[0].attempt(), 1);
  SayCancel();
  EXPECT_TRUE(Outcome(1).cancelled());
}

}  // namespace
}  // namespace lockstep
