#include "server/tensorboard/projection.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "tensorboard/hparams.pb.h"

namespace lockstep {
namespace {

using google::protobuf::TextFormat;
using ::tensorboard::hparams::HParamsPluginData;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;
using testing::UnorderedElementsAre;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  if (!TextFormat::ParseFromString(text, &message)) ADD_FAILURE() << text;
  return message;
}

v1::Event LogEvent(const std::string& kind) {
  return Parse<v1::Event>("sequence: 12 attempt: 1 time { seconds: 100 nanos: 250000000 } " + kind);
}

std::map<std::string, float> Scalars(const tb::Event& event) {
  std::map<std::string, float> scalars;
  for (const tb::Summary::Value& value : event.summary().value()) {
    EXPECT_TRUE(value.has_simple_value());
    scalars[value.tag()] = value.simple_value();
  }
  return scalars;
}

std::vector<double> Numbers(const tb::TensorProto& tensor) {
  return {tensor.double_val().begin(), tensor.double_val().end()};
}

std::string LogText(const v1::Event& event) {
  const std::vector<tb::Event> events = ProjectEvent(event);
  EXPECT_EQ(events.at(0).step(), 12);
  const tb::Summary::Value& value = events[0].summary().value(0);
  EXPECT_EQ(value.tag(), "log");
  EXPECT_EQ(value.metadata().plugin_data().plugin_name(), "text");
  EXPECT_EQ(value.tensor().dtype(), tb::DT_STRING);
  EXPECT_TRUE(value.tensor().has_tensor_shape());
  EXPECT_THAT(value.tensor().tensor_shape().dim(), IsEmpty());
  return value.tensor().string_val(0);
}

TEST(ProjectionTest, ACurvesTagLeadsBackToIt) {
  for (const char* curve : {"loss", "val_loss", "epoch_loss", "step_ms", "samples_per_second",
                            "learning_rate", "batch_norm/bn/mean_drift"}) {
    EXPECT_EQ(CurveOf(TagOf(curve)), curve);
  }
}

TEST(ProjectionTest, AStepRecordIsAPointOfEveryCurve) {
  const std::vector<tb::Event> events = ProjectEvent(LogEvent(R"pb(
    step {
      step: 50
      metrics { name: "loss" min: 1 mean: 2 max: 3 last: 1.5 }
      metrics { name: "accuracy" mean: 0.25 }
      learning_rate: 0.125
      gradient_norm: 4
      timing { samples_per_second: 5 step_ms: 6 compute_ms: 3 wait_ms: 2 reduce_ms: 1 }
    })pb"));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].step(), 50);
  EXPECT_EQ(events[0].wall_time(), 100.25);
  EXPECT_THAT(
      Scalars(events[0]),
      UnorderedElementsAre(Pair("loss", 2), Pair("accuracy", 0.25), Pair("learning_rate", 0.125),
                           Pair("gradient_norm", 4), Pair("timing/samples_per_second", 5),
                           Pair("timing/step_ms", 6), Pair("timing/compute_ms", 3),
                           Pair("timing/wait_ms", 2), Pair("timing/reduce_ms", 1)));
}

TEST(ProjectionTest, AnEpochsTrainingAndValidationAreDifferentTags) {
  const std::vector<tb::Event> events = ProjectEvent(LogEvent(R"pb(
    epoch {
      epoch: 3
      step: 90
      metrics { name: "loss" value: 0.5 }
      metrics { name: "val_loss" value: 0.75 }
      timing { step_ms: 6 }
    })pb"));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].step(), 90);
  EXPECT_THAT(Scalars(events[0]),
              UnorderedElementsAre(Pair("epoch/loss", 0.5), Pair("val_loss", 0.75)));
}

TEST(ProjectionTest, ABatchNormReportHasItsLossesAndEachLayersDrift) {
  const std::vector<tb::Event> events = ProjectEvent(LogEvent(R"pb(
    batch_norm {
      epoch: 3
      step: 90
      training_loss: 1
      inference_loss: 2
      layers { layer: "bn" mean_drift: 0.5 dead_channels: 3 }
    })pb"));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_THAT(Scalars(events[0]), UnorderedElementsAre(Pair("batch_norm/training_loss", 1),
                                                       Pair("batch_norm/inference_loss", 2),
                                                       Pair("batch_norm/bn/mean_drift", 0.5),
                                                       Pair("batch_norm/bn/dead_channels", 3)));
}

TEST(ProjectionTest, HistogramsAreRowsOfEdgesAndCountsWhichMayBeNone) {
  const std::vector<tb::Event> events = ProjectEvent(LogEvent(R"pb(
    weights {
      epoch: 3
      step: 90
      tensors {
        name: "dense.kernel"
        min: -1
        max: 2
        buckets: [ 5, 0, 7 ]
      }
      tensors {
        name: "same"
        min: 4
        max: 4
        buckets: [ 9 ]
      }
      tensors { name: "nan" not_finite: 3 }
    })pb"));
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].step(), 90);
  ASSERT_THAT(events[0].summary().value(), SizeIs(3));
  const std::vector<std::vector<double>> want = {{-1, 0, 5, 0, 1, 0, 1, 2, 7}, {4, 4, 9}, {}};
  const std::vector<std::string> tags = {"weights/dense.kernel", "weights/same", "weights/nan"};
  for (int i = 0; i < 3; ++i) {
    const tb::Summary::Value& value = events[0].summary().value(i);
    EXPECT_EQ(value.tag(), tags[i]);
    EXPECT_EQ(value.metadata().plugin_data().plugin_name(), "histograms");
    EXPECT_EQ(value.tensor().dtype(), tb::DT_DOUBLE);
    EXPECT_EQ(value.tensor().tensor_shape().dim(0).size() * 3, want[i].size());
    EXPECT_EQ(value.tensor().tensor_shape().dim(1).size(), 3);
    EXPECT_EQ(Numbers(value.tensor()), want[i]);
  }
}

TEST(ProjectionTest, TheTextLogHasWhatHappened) {
  EXPECT_EQ(LogText(LogEvent(R"pb(text { text: "a checkpoint" })pb")), "a checkpoint");
  EXPECT_EQ(LogText(LogEvent(R"pb(text { text: "drifts" severity: WARNING step: 9 })pb")),
            "Step 9: WARNING: drifts");
  EXPECT_EQ(LogText(LogEvent(R"pb(state { state: RUNNING })pb")), "RUNNING, attempt 1");
  EXPECT_EQ(LogText(LogEvent(R"pb(state { state: FAILED reason: "no memory" })pb")),
            "FAILED, attempt 1: no memory");
}

TEST(ProjectionTest, OnlyTheEndOfAJobEndsItsSession) {
  const std::map<std::string, std::string> want = {{"QUEUED", ""},
                                                   {"RUNNING", ""},
                                                   {"PAUSED", ""},
                                                   {"SUCCEEDED", "STATUS_SUCCESS"},
                                                   {"FAILED", "STATUS_FAILURE"},
                                                   {"CANCELLED", "STATUS_FAILURE"}};
  for (const auto& [state, status] : want) {
    SCOPED_TRACE(state);
    const std::vector<tb::Event> events = ProjectEvent(LogEvent("state { state: " + state + " }"));
    ASSERT_THAT(events, SizeIs(status.empty() ? 1 : 2));
    if (status.empty()) continue;
    const tb::Summary::Value& value = events[1].summary().value(0);
    EXPECT_EQ(value.tag(), "_hparams_/session_end_info");
    HParamsPluginData data;
    ASSERT_TRUE(data.ParseFromString(value.metadata().plugin_data().content()));
    EXPECT_EQ(::tensorboard::hparams::Status_Name(data.session_end_info().status()), status);
    EXPECT_EQ(data.session_end_info().end_time_secs(), 100.25);
  }
}

TEST(ProjectionTest, WhatTensorBoardHasNoPictureOfIsLeftOut) {
  EXPECT_THAT(ProjectEvent(LogEvent("checkpoint { step: 5 }")), IsEmpty());
  EXPECT_THAT(ProjectEvent(LogEvent("profile { first_step: 5 }")), IsEmpty());
}

TEST(ProjectionTest, HyperparametersAreFlatAndComparable) {
  v1::Job job = Parse<v1::Job>(R"pb(
    create_time { seconds: 7 }
    spec {
      data { train { dataset: "digits" } }
      labels { key: "team" value: "blue" }
      training {
        batch_size: 64
        seed: 18446744073709551615
        shards: 2
        shuffle: false
        optimizer { sgd { learning_rate: 0.5 momentum: 0.25 } }
        losses {
          huber { delta: 2 }
          weight: 3
        }
        metrics: [ "mae", "rmse" ]
        learning_rate_schedule { multi_step { milestones: [ 3, 5 ] } }
        weight_decay { rate: 0.125 }
      }
    })pb");
  const std::vector<tb::Event> events = ProjectJob(job);
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[0].wall_time(), 7);
  const tb::Summary::Value& value = events[1].summary().value(0);
  EXPECT_EQ(value.tag(), "_hparams_/session_start_info");
  HParamsPluginData data;
  ASSERT_TRUE(data.ParseFromString(value.metadata().plugin_data().content()));
  std::map<std::string, std::string> told;
  for (const auto& [name, hparam] : data.session_start_info().hparams()) {
    told[name] = hparam.ShortDebugString();
  }
  EXPECT_THAT(
      told,
      UnorderedElementsAre(
          Pair("batch_size", "number_value: 64"),
          Pair("seed", "string_value: \"18446744073709551615\""),  // no double has it
          Pair("shards", "number_value: 2"), Pair("shuffle", "bool_value: false"),
          Pair("optimizer", "string_value: \"sgd\""),
          Pair("optimizer.learning_rate", "number_value: 0.5"),
          Pair("optimizer.momentum", "number_value: 0.25"),
          Pair("losses", "string_value: \"huber\""), Pair("losses.delta", "number_value: 2"),
          Pair("losses.weight", "number_value: 3"), Pair("metrics", "string_value: \"mae, rmse\""),
          Pair("learning_rate_schedule", "string_value: \"multi_step\""),
          Pair("learning_rate_schedule.milestones", "string_value: \"3, 5\""),
          Pair("weight_decay.rate", "number_value: 0.125"),
          Pair("dataset", "string_value: \"digits\""),
          Pair("label.team", "string_value: \"blue\"")));
}

// Maps have an order of their own in each process; a file that is made again must not.
TEST(ProjectionTest, TheSameJobIsTheSameBytes) {
  v1::Job job;
  for (int i = 0; i < 50; ++i) (*job.mutable_spec()->mutable_labels())[std::to_string(i)] = "x";
  v1::Job other;
  for (int i = 49; i >= 0; --i) (*other.mutable_spec()->mutable_labels())[std::to_string(i)] = "x";
  EXPECT_EQ(ProjectJob(job)[1].SerializeAsString(), ProjectJob(other)[1].SerializeAsString());
}

}  // namespace
}  // namespace lockstep
