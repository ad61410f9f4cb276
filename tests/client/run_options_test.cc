// Options about how a job runs reach the spec, and leave the rest of its file alone.

#include "client/cli/run_options.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr char kFile[] = R"({
    "publish_as": "m", "priority": 3, "labels": {"team": "vision", "run": "1"},
    "resources": {"threads": 2, "profile": true}, "checkpoints": {"every_steps": 10}})";

TEST(RunOptionsTest, NothingSaidChangesNothing) {
  auto spec = ParseJson<v1::JobSpec>(kFile);
  ASSERT_TRUE(ApplyRunOptions({}, spec).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(spec, ParseJson<v1::JobSpec>(kFile)));
  v1::JobSpec empty;
  ASSERT_TRUE(ApplyRunOptions({}, empty).ok());
  EXPECT_EQ(empty.ByteSizeLong(), 0);
}

TEST(RunOptionsTest, WhatIsSaidCountsMoreThanTheFile) {
  auto spec = ParseJson<v1::JobSpec>(kFile);
  ASSERT_TRUE(ApplyRunOptions({.priority = -5,
                               .labels = {"run=2", "note=a=b", "empty="},
                               .threads = 1,
                               .max_seconds = 60,
                               .max_memory_mb = 512,
                               .preempt = true,
                               .checkpoint_steps = 100,
                               .checkpoint_seconds = 5,
                               .keep_checkpoints = 4,
                               .keep_best = "val_loss"},
                              spec)
                  .ok());
  EXPECT_TRUE(MessageDifferencer::Equals(spec, ParseJson<v1::JobSpec>(R"({
      "publish_as": "m", "priority": -5,
      "labels": {"team": "vision", "run": "2", "note": "a=b", "empty": ""},
      "resources": {"threads": 1, "profile": true, "max_seconds": 60, "preempt": true,
                    "max_memory_bytes": 512000000},
      "checkpoints": {"every_steps": 100, "every_seconds": 5, "keep_last": 4,
                      "keep_best": "val_loss"}})")))
      << spec.DebugString();
}

TEST(RunOptionsTest, ALabelNeedsAKeyAndAnEqualsSign) {
  for (const char* bad : {"team", "=vision", ""}) {
    RunOptions options;
    options.labels = {bad};
    v1::JobSpec spec;
    EXPECT_TRUE(absl::IsInvalidArgument(ApplyRunOptions(options, spec))) << bad;
  }
}

}  // namespace
}  // namespace lockstep
