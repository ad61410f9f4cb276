// Frozen layers and initial weights: what must stay, and what must not notice.

#include <gtest/gtest.h>

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "core/network/network.h"
#include "core/network/step_plan.h"
#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

v1::JobSpec Frozen(v1::JobSpec spec, std::initializer_list<int> layers) {
  for (int i : layers) spec.mutable_model()->mutable_layers(i)->set_trainable(false);
  return spec;
}

// Parameters, then buffers, by name.
std::map<std::string, std::vector<float>> Tensors(const std::string& file) {
  std::map<std::string, std::vector<float>> tensors;
  const auto read = ReadSafetensors(file);
  EXPECT_TRUE(read.ok()) << read.status();
  for (const FloatTensorView& t : read->tensors) {
    tensors[t.name].assign(t.values.begin(), t.values.end());
  }
  return tensors;
}

std::map<std::string, std::vector<float>> InitialTensors(v1::JobSpec spec) {
  const Network network = *Network::Build(spec.mutable_model());
  std::vector<float> parameters(network.parameters_size());
  std::vector<float> buffers(network.buffers_size());
  network.Initialize(spec.training().seed(), parameters, buffers);
  return Tensors(WriteWeights(network, spec.model(), 0, parameters, buffers));
}

TEST(FrozenLayers, KeepTheirTensorsAndTheOthersLearn) {
  const SmallData data = MakeImages(100, 1);
  for (const bool adam : {false, true}) {
    v1::JobSpec spec = Frozen(CnnJob(), {0, 4});  // a convolution and a BatchNorm
    if (adam) spec.mutable_training()->mutable_optimizer()->mutable_adam();
    const auto before = InitialTensors(spec);
    const Trained one = Train(spec, data, 1);
    for (const auto& [name, values] : Tensors(one.weights)) {
      const bool frozen = name.starts_with("conv2d.") || name.starts_with("batch_normalization_1.");
      EXPECT_EQ(values == before.at(name), frozen) << name;
    }
    EXPECT_EQ(Train(spec, data, 3).state_hash, one.state_hash);
  }
}

TEST(FrozenLayers, NothingBelowTheLowestThatLearnsIsDifferentiated) {
  v1::JobSpec spec = Frozen(CnnJob(), {0, 1, 3});
  const Network network = *Network::Build(spec.mutable_model());
  const StepPlan plan(network, Capacity{8, 2, 1});
  // The second BatchNorm, node 4, is the first that learns.
  for (int value = 0; value <= 4; ++value) EXPECT_FALSE(plan.needs_gradient[value]) << value;
  EXPECT_TRUE(plan.needs_gradient[5]);
}

// A frozen BatchNorm is a fixed affine map, in training too: with moving values of 0 and 1 and an
// epsilon that does not show it is the identity, and the job without it computes the same bits.
TEST(FrozenLayers, ABatchNormUsesItsMovingValuesInTraining) {
  const SmallData data = MakeVectors(60, 20, 1);
  v1::JobSpec with = Frozen(MlpJob(), {1});
  v1::BatchNormalization& norm =
      *with.mutable_model()->mutable_layers(1)->mutable_batch_normalization();
  norm.set_epsilon(1e-12);
  norm.set_center(false);
  norm.set_scale(false);
  v1::JobSpec without = MlpJob();
  without.mutable_model()->mutable_layers()->DeleteSubrange(1, 1);
  auto tensors = Tensors(Train(with, data, 2).weights);
  EXPECT_EQ(tensors.at("batch_normalization.moving_mean"), std::vector<float>(16));
  EXPECT_EQ(tensors.at("batch_normalization.moving_variance"), std::vector<float>(16, 1.0f));
  tensors.erase("batch_normalization.moving_mean");
  tensors.erase("batch_normalization.moving_variance");
  EXPECT_EQ(tensors, Tensors(Train(without, data, 2).weights));
}

TEST(FrozenLayers, AJobInWhichNothingLearnsIsRefused) {
  const SmallData data = MakeVectors(60, 20, 1);
  const auto plan = PlanJob(Frozen(MlpJob(), {0, 1, 2}), data.Describe("small"), nullptr, 1 << 30);
  EXPECT_EQ(plan.status().message(),
            "model.layers: no layer has weights that could be trained; trainable is false in all "
            "that have some");
}

TEST(FrozenLayers, GroupsOfShardsMustDivideThem) {
  const SmallData data = MakeVectors(60, 20, 1);
  v1::JobSpec spec = MlpJob();
  spec.mutable_training()->set_shards(6);
  spec.mutable_model()->mutable_layers(1)->mutable_batch_normalization()->set_group_shards(4);
  EXPECT_EQ(PlanJob(spec, data.Describe("small"), nullptr, 1 << 30).status().message(),
            "model.layers[1].batch_normalization.group_shards: must divide the 6 of "
            "training.shards, got 4");
}

// All of a model's weights, then none of its training: the second job goes on from the first's.
TEST(InitialWeightsOfAJob, AreWhatTrainingStartsFrom) {
  const SmallData data = MakeVectors(60, 20, 1);
  const std::string weights = Train(MlpJob(), data, 2).weights;
  v1::JobSpec spec = Frozen(MlpJob(), {0, 1});
  spec.mutable_initial_weights()->mutable_safetensors()->set_sha256(Sha256(weights));
  ThreadPool pool(2);
  auto trainer = Trainer::Create(PlanOrDie(spec, data), data.view(), std::nullopt, &pool, weights);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  const auto wanted = Tensors(weights);
  EXPECT_EQ(Tensors((*trainer)->SerializeWeights()), wanted);
  ASSERT_TRUE((*trainer)->Step().ok());
  for (const auto& [name, values] : Tensors((*trainer)->SerializeWeights())) {
    EXPECT_EQ(values == wanted.at(name), !name.starts_with("dense_1.")) << name;
  }
  const auto broken = Trainer::Create(PlanOrDie(spec, data), data.view(), std::nullopt, &pool, "");
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep
