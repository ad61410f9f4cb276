// What is refused of how a network is to be trained, and what is filled in.

#include "core/training/optimizer_checks.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/network/network.h"
#include "core/training/monitor.h"
#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

constexpr int64_t kSteps = 20;

Network ImageNetwork() {
  auto spec = ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[6,8,3]}],"layers":[
      {"conv2d":{"filters":2,"kernelSize":[3]}},{"flatten":{}},{"dense":{"units":2}}]})");
  return *Network::Build(&spec);
}

absl::Status Check(const std::string& json, bool validates = true) {
  auto training = ParseJson<v1::TrainingSpec>(json);
  training.add_metrics("accuracy");
  return CheckOptimization(ImageNetwork(), validates, kSteps, &training);
}

struct Refusal {
  const char* json;
  const char* message;
};

TEST(OptimizerChecksTest, RefusesByPath) {
  const Refusal refusals[] = {
      {R"({"optimizer":{"rmsprop":{"learningRate":0}}})",
       "training.optimizer.rmsprop.learning_rate: must be > 0 and finite, got 0"},
      {R"({"optimizer":{"rmsprop":{"rho":1}}})",
       "training.optimizer.rmsprop.rho: must be within [0, 1), got 1"},
      {R"({"optimizer":{"rmsprop":{"momentum":-1}}})",
       "training.optimizer.rmsprop.momentum: must be within [0, 1], got -1"},
      {R"({"optimizer":{"rmsprop":{"epsilon":"NaN"}}})",
       "training.optimizer.rmsprop.epsilon: must be > 0 and finite, got nan"},
      {R"({"learningRateSchedule":{}})",
       "training.learning_rate_schedule: must be one of step, multi_step, "},
      {R"({"learningRateSchedule":{"step":{}}})",
       "training.learning_rate_schedule.step.epochs: must be >= 1, got 0"},
      {R"({"learningRateSchedule":{"step":{"epochs":1,"gamma":1.5}}})",
       "training.learning_rate_schedule.step.gamma: must be within (0, 1], got 1.5"},
      {R"({"learningRateSchedule":{"multiStep":{}}})",
       "training.learning_rate_schedule.multi_step.milestones: must have at least one epoch"},
      {R"({"learningRateSchedule":{"multiStep":{"milestones":[0]}}})",
       "training.learning_rate_schedule.multi_step.milestones[0]: must be > 0, got 0"},
      {R"({"learningRateSchedule":{"multiStep":{"milestones":[3,7,7]}}})",
       "training.learning_rate_schedule.multi_step.milestones[2]: must be > 7, the one before "
       "it, got 7"},
      {R"({"learningRateSchedule":{"cosine":{"decaySteps":-5}}})",
       "training.learning_rate_schedule.cosine.decay_steps: must be >= 0, got -5"},
      {R"({"learningRateSchedule":{"cosine":{"warmupSteps":20}}})",
       "training.learning_rate_schedule.cosine.warmup_steps: must be within [0, decay_steps), "
       "decay_steps being 20, got 20"},
      {R"({"learningRateSchedule":{"cosine":{"alpha":2}}})",
       "training.learning_rate_schedule.cosine.alpha: must be within [0, 1], got 2"},
      {R"({"learningRateSchedule":{"exponential":{"decayRate":0.5}}})",
       "training.learning_rate_schedule.exponential.decay_steps: must be >= 1, got 0"},
      {R"({"learningRateSchedule":{"exponential":{"decaySteps":5}}})",
       "training.learning_rate_schedule.exponential.decay_rate: must be within (0, 1], got 0"},
      {R"({"learningRateSchedule":{"oneCycle":{"pctStart":1}}})",
       "training.learning_rate_schedule.one_cycle.pct_start: must be within (0, 1), got 1"},
      {R"({"learningRateSchedule":{"oneCycle":{"pctStart":0.05}}})",
       "one_cycle.pct_start: 0.05 of the job's 20 steps must be more than one step"},
      {R"({"learningRateSchedule":{"oneCycle":{"divFactor":0}}})",
       "training.learning_rate_schedule.one_cycle.div_factor: must be > 0 and finite, got 0"},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"monitor":"auc"}}})",
       "training.learning_rate_schedule.reduce_on_plateau.monitor: \"auc\" is unknown; there is "
       "loss, accuracy, val_loss, val_accuracy"},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"mode":"least"}}})",
       "reduce_on_plateau.mode: must be min or max; got \"least\""},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"factor":1}}})",
       "reduce_on_plateau.factor: must be within (0, 1), got 1"},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"patience":-1}}})",
       "reduce_on_plateau.patience: must be >= 0, got -1"},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"cooldown":-1}}})",
       "reduce_on_plateau.cooldown: must be >= 0, got -1"},
      {R"({"learningRateSchedule":{"reduceOnPlateau":{"minLearningRate":-0.5}}})",
       "reduce_on_plateau.min_learning_rate: must be >= 0 and finite, got -0.5"},
      {R"({"weightDecay":{"rate":-1}})",
       "training.weight_decay.rate: must be >= 0 and finite, got -1"},
      {R"({"weightDecay":{"groups":[{"layers":["dense"],"rate":"Infinity"}]}})",
       "training.weight_decay.groups[0].rate: must be >= 0 and finite, got inf"},
      {R"({"weightDecay":{"groups":[{"layers":["dense"]},{"layers":["dense","dens"]}]}})",
       "training.weight_decay.groups[1].layers[1]: the model has no layer \"dens\""},
      {R"({"weightDecay":{"groups":[{"rate":1}]}})",
       "training.weight_decay.groups[0].layers: must name a layer"},
      {R"({"gradientClipping":{}})",
       "training.gradient_clipping: must have one of value, norm and global_norm, got none"},
      {R"({"gradientClipping":{"value":1,"norm":1}})", "global_norm, got 2"},
      {R"({"gradientClipping":{"globalNorm":-1}})",
       "training.gradient_clipping.global_norm: must be >= 0 and finite, got -1"},
      {R"({"earlyStopping":{"patience":-2}})",
       "training.early_stopping.patience: must be >= 0, got -2"},
      {R"({"earlyStopping":{"minDelta":"NaN"}})",
       "training.early_stopping.min_delta: must be >= 0 and finite, got nan"},
      {R"({"earlyStopping":{"startFromEpoch":-1}})",
       "training.early_stopping.start_from_epoch: must be >= 0, got -1"},
      {R"({"earlyStopping":{"monitor":"val_f1"}})",
       "training.early_stopping.monitor: \"val_f1\" is unknown"},
      {R"({"ema":{"momentum":1.1}})", "training.ema.momentum: must be within [0, 1], got 1.1"},
      {R"({"augmentation":{"shift":6}})",
       "training.augmentation.shift: must be within [0, 6), the image's shorter side, got 6"},
      {R"({"augmentation":{"cutout":-1}})",
       "training.augmentation.cutout: must be within [0, 6], the image's shorter side, got -1"},
  };
  for (const Refusal& refusal : refusals) {
    const absl::Status status = Check(refusal.json);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.json;
    EXPECT_NE(status.message().find(refusal.message), std::string::npos)
        << "expected: " << refusal.message << "\n     got: " << status.message();
  }
}

TEST(OptimizerChecksTest, MonitorsOfValidationNeedValidation) {
  EXPECT_EQ(Check(R"({"earlyStopping":{}})", false).message(),
            "training.early_stopping.monitor: \"val_loss\" needs validation data "
            "(data.validation)");
  EXPECT_TRUE(Check(R"({"earlyStopping":{}})", true).ok());
  EXPECT_TRUE(Check(R"({"earlyStopping":{"monitor":"accuracy"}})", false).ok());
}

TEST(OptimizerChecksTest, AugmentationNeedsImages) {
  auto spec =
      ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[20]}],"layers":[{"dense":{"units":2}}]})");
  const Network network = *Network::Build(&spec);
  auto training = ParseJson<v1::TrainingSpec>(R"({"augmentation":{"shift":1}})");
  EXPECT_EQ(CheckOptimization(network, false, kSteps, &training).message(),
            "training.augmentation: needs an input [N, H, W, C], but the model's has 1 "
            "dimension(s) a sample");
}

TEST(OptimizerChecksTest, FillsInDefaults) {
  auto training = ParseJson<v1::TrainingSpec>(R"({
      "metrics":["accuracy"],"optimizer":{"rmsprop":{}},"learningRateSchedule":{"cosine":{}},
      "earlyStopping":{"monitor":"val_accuracy"},"ema":{}})");
  ASSERT_TRUE(CheckOptimization(ImageNetwork(), true, kSteps, &training).ok());
  EXPECT_EQ(training.optimizer().rmsprop().learning_rate(), 0.001);
  EXPECT_EQ(training.optimizer().rmsprop().rho(), 0.9);
  EXPECT_EQ(training.optimizer().rmsprop().epsilon(), 1e-7);
  EXPECT_EQ(training.learning_rate_schedule().cosine().decay_steps(), kSteps);
  EXPECT_EQ(training.early_stopping().mode(), "max");
  EXPECT_EQ(training.ema().momentum(), 0.99);
  v1::TrainingSpec again = training;
  ASSERT_TRUE(CheckOptimization(ImageNetwork(), true, kSteps, &again).ok());
  EXPECT_EQ(again.DebugString(), training.DebugString());
}

TEST(OptimizerChecksTest, ModesFollowTheMetric) {
  for (const char* metric :
       {"accuracy", "val_accuracy", "val_top_5_accuracy", "age_auc", "precision", "recall", "f1"}) {
    EXPECT_EQ(DefaultMode(metric), "max") << metric;
  }
  for (const char* metric : {"loss", "val_loss", "mae", "val_age_rmse"}) {
    EXPECT_EQ(DefaultMode(metric), "min") << metric;
  }
}

// model.proto's Regularizer.
TEST(OptimizerChecksTest, RefusesRegularizersBelowZero) {
  const Refusal refusals[] = {
      {R"({"dense":{"units":2,"kernelRegularizer":{"l1":-1}}})",
       "model.layers[0].dense.kernel_regularizer.l1: must be >= 0 and finite, got -1"},
      {R"({"dense":{"units":2,"biasRegularizer":{"l2":"NaN"}}})",
       "model.layers[0].dense.bias_regularizer.l2: must be >= 0 and finite, got nan"},
      {R"({"batchNormalization":{"gammaRegularizer":{"l2":-0.5}}})",
       "model.layers[0].batch_normalization.gamma_regularizer.l2: must be >= 0 and finite, got "
       "-0.5"},
      {R"({"layerNormalization":{"gammaRegularizer":{"l1":-2}}})",
       "model.layers[0].layer_normalization.gamma_regularizer.l1: must be >= 0 and finite, got -2"},
      {R"({"groupNormalization":{"groups":1,"betaRegularizer":{"l2":"Infinity"}}})",
       "model.layers[0].group_normalization.beta_regularizer.l2: must be >= 0 and finite, got inf"},
  };
  const Refusal of_sequences[] = {
      {R"({"conv1d":{"filters":2,"kernelSize":1,"kernelRegularizer":{"l1":-1}}})",
       "model.layers[0].conv1d.kernel_regularizer.l1: must be >= 0 and finite, got -1"},
      {R"({"conv1d":{"filters":2,"kernelSize":1,"biasRegularizer":{"l2":-1}}})",
       "model.layers[0].conv1d.bias_regularizer.l2: must be >= 0 and finite, got -1"},
  };
  const Refusal of_images[] = {
      {R"({"depthwiseConv2d":{"kernelSize":[1],"depthwiseRegularizer":{"l2":-1}}})",
       "model.layers[0].depthwise_conv2d.depthwise_regularizer.l2: must be >= 0 and finite, got "
       "-1"},
      {R"({"depthwiseConv2d":{"kernelSize":[1],"biasRegularizer":{"l1":"NaN"}}})",
       "model.layers[0].depthwise_conv2d.bias_regularizer.l1: must be >= 0 and finite, got nan"},
      {R"({"separableConv2d":{"filters":2,"kernelSize":[1],"depthwiseRegularizer":{"l1":-1}}})",
       "model.layers[0].separable_conv2d.depthwise_regularizer.l1: must be >= 0 and finite, got "
       "-1"},
      {R"({"separableConv2d":{"filters":2,"kernelSize":[1],"pointwiseRegularizer":{"l1":-1}}})",
       "model.layers[0].separable_conv2d.pointwise_regularizer.l1: must be >= 0 and finite, got "
       "-1"},
      {R"({"separableConv2d":{"filters":2,"kernelSize":[1],"biasRegularizer":{"l2":-1}}})",
       "model.layers[0].separable_conv2d.bias_regularizer.l2: must be >= 0 and finite, got -1"},
  };
  const auto check = [](std::span<const Refusal> table, const std::vector<int64_t>& shape) {
    for (const Refusal& refusal : table) {
      v1::ModelSpec model;
      v1::Input& input = *model.add_inputs();
      for (int64_t size : shape) input.add_shape(size);
      *model.add_layers() = ParseJson<v1::Layer>(refusal.json);
      EXPECT_EQ(Network::Build(&model).status().message(), refusal.message);
    }
  };
  check(refusals, {4});
  check(of_sequences, {5, 4});
  check(of_images, {5, 5, 4});
}

}  // namespace
}  // namespace lockstep
