// Every plan of a step, replayed: each call once and after what it needs, nothing overwritten while
// it is needed.

#include "core/network/step_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "lockstep/v1/job.pb.h"
#include "tests/core/network/networks.h"
#include "tests/core/network/step_replay.h"

namespace lockstep {
namespace {

void Replay(const Network& network) {
  for (const Capacity& capacity : {Capacity{1, 1, 1}, Capacity{4, 3, 2}}) {
    const StepPlan plan(network, capacity);
    for (StepReplay::Tiles tiles : {StepReplay::Tiles::kOneByOne, StepReplay::Tiles::kAtOnce}) {
      StepReplay(network, capacity, plan, tiles).Run();
    }
  }
}

// The layers on an image of 6 x 6 with 4 channels.
void ReplayLayers(const std::string& layers) {
  SCOPED_TRACE(layers);
  Replay(BuildNetwork(R"({"inputs": [{"shape": [6, 6, 4]}], "layers": [)" + layers + "]}"));
}

TEST(StepPlan, OfTheExamples) {
  for (const std::string name :
       {"cnn", "mlp", "mlp-batchnorm", "mlp-sigmoid", "mlp-wide", "resnet20"}) {
    SCOPED_TRACE(name);
    std::ifstream stream(EXAMPLES_DIR "/" + name + ".json");
    const std::string json{std::istreambuf_iterator<char>(stream), {}};
    auto job = ParseJson<v1::JobSpec>(json);
    const auto network = Network::Build(job.mutable_model());
    ASSERT_TRUE(network.ok()) << network.status();
    Replay(*network);
  }
}

const std::string kConv =
    R"("conv2d": {"filters": 4, "kernel_size": [3], "padding": "same", "activation": "relu"})";
const std::string kLinear = R"("conv2d": {"filters": 4, "kernel_size": [3], "padding": "same"})";
const std::string kNorm = R"("batch_normalization": {})";
const std::string kTail = R"({"flatten": {}}, {"dense": {"units": 3}})";

std::string Named(const std::string& name, const std::string& layer, const std::string& inputs) {
  return R"({"name": ")" + name + R"(", )" + layer + R"(, "inputs": [)" + inputs + "]}, ";
}

TEST(StepPlan, OfResidualNetworks) {
  Replay(BuildNetwork(kResidualNetwork));
  Replay(BuildNetwork(kShapesNetwork));
  Replay(BuildNetwork(kNormalizedNetwork));
  // The shortcut is a layer that overwrites its gradient, one that reads it at the end, BatchNorm.
  for (const std::string& shortcut : {kConv, kLinear, kNorm}) {
    ReplayLayers(Named("s", kConv, R"("input")") + Named("a", shortcut, R"("s")") +
                 Named("b", kLinear, R"("s")") + Named("c", kNorm, R"("b")") +
                 Named("d", R"("add": {})", R"("c", "a")") + kTail);
  }
}

TEST(StepPlan, OfNestedSums) {
  ReplayLayers(Named("a", kConv, R"("input")") + Named("b", kLinear, R"("a")") +
               Named("c", kNorm, R"("b")") + Named("d", R"("add": {})", R"("b", "c")") +
               Named("e", R"("add": {})", R"("d", "a")") +
               Named("f", R"("add": {})", R"("e", "d", "input")") + kTail);
  ReplayLayers(Named("a", kConv, R"("input")") + Named("b", kConv, R"("input")") +
               Named("c", kLinear, R"("input")") + Named("d", R"("add": {})", R"("a", "b", "c")") +
               Named("e", kNorm, R"("d")") + kTail);
}

TEST(StepPlan, OfAValueWithThreeReaders) {
  ReplayLayers(Named("a", kNorm, R"("input")") + Named("b", kConv, R"("a")") +
               Named("c", R"("max_pooling2d": {"pool_size": [1]})", R"("a")") +
               Named("d", kLinear, R"("a")") + Named("e", kNorm, R"("d")") +
               Named("f", R"("add": {})", R"("e", "c", "b")") + kTail);
}

TEST(StepPlan, OfPoolingBesideBatchNorm) {
  const std::string pool = R"({"max_pooling2d": {}}, )";
  const std::string average = R"({"global_average_pooling2d": {}}, )";
  const std::string conv = "{" + kConv + "}, ";
  const std::string norm = "{" + kNorm + "}, ";
  ReplayLayers(conv + pool + norm + kTail);
  ReplayLayers(conv + norm + pool + kTail);
  ReplayLayers(conv + norm + pool + conv + norm + pool + kTail);
  ReplayLayers(conv + norm + pool + pool + kTail);
  ReplayLayers(pool + norm + pool + norm + conv + kTail);
  ReplayLayers(conv + norm + average + norm + R"({"dense": {"units": 3}})");
}

TEST(StepPlan, OfRowsAndViews) {
  const std::string norm = "{" + kNorm + "}, ";
  const std::string flatten = R"({"flatten": {}}, )";
  const std::string dense = R"({"dense": {"units": 5, "activation": "tanh"}}, )";
  ReplayLayers(flatten + norm + dense + norm + dense + norm + R"({"dense": {"units": 3}})");
  ReplayLayers(flatten + R"({"flatten": {}}, )" + dense + R"({"flatten": {}})");
  ReplayLayers("{" + kConv + "}, " + R"({"flatten": {}})");
  // A value read as an image and, through a view, as a row.
  ReplayLayers(Named("a", kConv, R"("input")") + Named("row", R"("flatten": {})", R"("a")") +
               Named("b", kNorm, R"("a")") + Named("c", R"("flatten": {})", R"("b")") +
               Named("d", R"("add": {})", R"("c", "row")") + Named("e", kNorm, R"("d")") +
               R"({"dense": {"units": 3}})");
}

// Nothing above the first layer with weights has a gradient.
TEST(StepPlan, OfLayersAboveAllWeights) {
  ReplayLayers(R"({"dropout": {"rate": 0.5}}, {"max_pooling2d": {}}, )" + kTail);
  ReplayLayers(
      R"({"activation": {"activation": "relu"}}, )" + Named("a", kConv, R"("activation")") +
      Named("b", R"("add": {})", R"("a", "activation")") + Named("c", kNorm, R"("b")") + kTail);
}

// What a step keeps is most of its memory: normalized values behind a convolution need not be, and
// the gradient of a pooled image takes the image's place.
TEST(StepPlan, KeepsNeitherWhatBatchNormCanRepeatNorAnImageBesideItsGradient) {
  const std::string conv = "{" + kLinear + "}, ";
  const std::string norm = "{" + kNorm + "}, ";
  const Network network = BuildNetwork(R"({"inputs": [{"shape": [6, 6, 4]}], "layers": [)" + conv +
                                       norm + R"({"activation": {"activation": "relu"}}, )" + conv +
                                       norm + R"({"max_pooling2d": {}}, )" + conv + kTail + "]}");
  const StepPlan plan(network, {4, 1, 1});
  const auto value = [&](const std::string& name) {
    return std::ranges::find(network.nodes(), name, &Network::Node::name) -
           network.nodes().begin() + 1;
  };
  const int64_t normalized = value("activation");
  EXPECT_EQ(plan.values[normalized].kind, Place::Kind::kTile);
  EXPECT_EQ(plan.backward_values[normalized].kind, Place::Kind::kTile);
  const int64_t pooled = value("max_pooling2d");
  EXPECT_EQ(plan.values[pooled].kind, Place::Kind::kBatch);
  EXPECT_EQ(plan.gradients[pooled].kind, Place::Kind::kBatch);
  EXPECT_EQ(plan.gradients[pooled].piece.offset, plan.values[pooled].piece.offset);
}

TEST(StepPlan, OfRandomGraphs) {
  for (uint32_t seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    const std::string json = RandomNetwork(seed);
    SCOPED_TRACE(json);
    Replay(BuildNetwork(json));
  }
}

}  // namespace
}  // namespace lockstep
