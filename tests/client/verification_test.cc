// A receipt becomes the job that verifies it, and only equal hashes count as verified.

#include "client/cli/verification.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

v1::Receipt Receipt() {
  return Parse<v1::Receipt>(
      "job_id: 'trained' fingerprint: 'f' contract: 'c' seed: 18446744073709551615 shards: 8 "
      "steps: 20 state_hash: 'end' "
      "spec { publish_as: 'cnn' resources { threads: 64 max_seconds: 5 preempt: true } "
      "  training { epochs: 2 optimizer { sgd { learning_rate: 0.1 } } } "
      "  model { layers { name: 'd' dense { units: 3 } } } } "
      "epochs { epoch: 1 step: 10 state_hash: 'half' } epochs { epoch: 2 step: 20 state_hash: "
      "'end' }");
}

TEST(VerificationTest, AsksForEveryHashOfTheReceiptOnThisSidesThreads) {
  const auto spec = VerificationOf(Receipt(), 2);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(MessageDifferencer::Equals(
      *spec, Parse<v1::JobSpec>("publish_as: 'cnn' resources { threads: 2 } "
                                "training { epochs: 2 optimizer { sgd { learning_rate: 0.1 } } } "
                                "model { layers { name: 'd' dense { units: 3 } } } "
                                "verification { steps: 20 state_hash: 'end' "
                                "  epochs { epoch: 1 step: 10 state_hash: 'half' } "
                                "  epochs { epoch: 2 step: 20 state_hash: 'end' } }")))
      << spec->DebugString();
}

TEST(VerificationTest, AnOlderServersReceiptIsRefusedWithTheReason) {
  v1::Receipt receipt = Receipt();
  receipt.clear_spec();
  EXPECT_THAT(std::string(VerificationOf(receipt, {}).status().message()),
              HasSubstr("older server"));
  receipt = Receipt();
  receipt.clear_state_hash();
  EXPECT_TRUE(absl::IsFailedPrecondition(VerificationOf(receipt, {}).status()));
}

TEST(VerificationTest, AReceiptSurvivesItsFile) {
  const auto json = ReceiptToJson(Receipt());
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_THAT(*json, HasSubstr("\"state_hash\": \"end\""));
  const auto back = ParseReceipt(*json);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*back, Receipt())) << *json;
}

TEST(VerificationTest, WhatIsNotUnderstoodIsNoReceipt) {
  EXPECT_TRUE(absl::IsInvalidArgument(ParseReceipt("safetensors").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ParseReceipt(R"({"new_rule": 1})").status()));
}

TEST(VerificationTest, TakesTheCheckpointThatIsAskedForOrTheNewestBeforeTheEnd) {
  const auto job = Parse<v1::Job>(
      "id: 'trained' checkpoints { step: 20 } checkpoints { step: 15 } checkpoints { step: 10 }");
  EXPECT_EQ(CheckpointToVerifyFrom(job, 20, {})->step(), 15);
  EXPECT_EQ(CheckpointToVerifyFrom(job, 20, 10)->step(), 10);
  const absl::Status missing = CheckpointToVerifyFrom(job, 20, 11).status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_EQ(missing.message(),
            "job trained keeps no checkpoint of step 11; it keeps those of step 20, 15, 10");
  EXPECT_EQ(CheckpointToVerifyFrom(Parse<v1::Job>("id: 'trained'"), 20, {}).status().message(),
            "job trained keeps no checkpoint from before its end; it keeps none");
}

TEST(VerificationTest, SaysWhatWasComparedOrWhatDiffers) {
  v1::Job job;
  *job.mutable_spec() = *VerificationOf(Receipt(), {});
  job.set_state(v1::SUCCEEDED);
  job.set_state_hash("end");
  EXPECT_EQ(VerificationOutcome(job),
            "verified: 20 steps, 2 epochs, state hash end is the receipt's");
  job.mutable_spec()->mutable_verification()->mutable_checkpoint()->set_step(15);
  EXPECT_EQ(VerificationOutcome(job),
            "verified: 5 steps from step 15, 1 epoch, state hash end is the receipt's");
  job.set_state(v1::FAILED);
  job.set_state_reason("step 10 has state hash x, not half");
  EXPECT_FALSE(IsVerified(job));
  EXPECT_EQ(VerificationOutcome(job), "not verified: step 10 has state hash x, not half");
}

TEST(VerificationTest, AServerThatOnlySaysSoIsNotBelieved) {
  v1::Job job;
  *job.mutable_spec() = *VerificationOf(Receipt(), {});
  job.set_state(v1::SUCCEEDED);
  for (const char* hash : {"", "other"}) {
    job.set_state_hash(hash);
    EXPECT_FALSE(IsVerified(job)) << hash;
    EXPECT_THAT(VerificationOutcome(job), HasSubstr("not verified")) << hash;
  }
}

}  // namespace
}  // namespace lockstep
