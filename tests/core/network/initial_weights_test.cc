// Weights of others as they are named and laid out there: predictions tell whether each value came
// to its place.

#include "core/network/initial_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "core/inference/inference_pass.h"
#include "tests/core/parse_json.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

class InitialWeightsTest : public testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    for (const auto& [name, tensor] : golden_.tensors) {
      if (name != "x" && name != "y") tensors_.push_back({name, tensor.shape, tensor.values});
    }
    initial_.set_naming(golden_.name);
  }

  absl::Status Read() {
    const std::string file = WriteSafetensors({}, tensors_);
    return ReadInitialWeights(network_, spec_, initial_, file, parameters_, buffers_);
  }

  FloatTensorView& tensor(size_t i) { return tensors_[i]; }

  const GoldenCase golden_ = GetParam();
  v1::ModelSpec spec_ = golden_.Spec<v1::ModelSpec>();
  const Network network_ = *Network::Build(&spec_);
  std::vector<FloatTensorView> tensors_;
  v1::InitialWeights initial_;
  std::vector<float> parameters_ = std::vector<float>(network_.parameters_size());
  std::vector<float> buffers_ = std::vector<float>(network_.buffers_size());
};

TEST_P(InitialWeightsTest, PredictAsTheyDoThere) {
  const absl::Status status = Read();
  ASSERT_TRUE(status.ok()) << status;
  InferencePass pass(network_, std::vector<bool>{false});
  pass.SetWeights(*kernels::Kernels(), parameters_.data(), buffers_.data());
  AlignedBuffer<std::byte> memory(pass.MemoryBytes());
  const GoldenTensor& x = golden_["x"];
  std::vector<float> y(x.shape[0] * network_.output().size());
  pass.Run(*kernels::Kernels(), x.shape[0], x.values.data(), y.data(), memory.data());
  ExpectClose(y, golden_["y"], "y");
}

TEST_P(InitialWeightsTest, ListEverythingThatDoesNotFit) {
  const std::string reshaped = tensors_[1].name;
  const std::string infinite = tensors_[2].name;
  tensor(0).name = "extra.weight";
  tensor(1).shape.push_back(1);
  std::vector<float> values(tensor(2).values.begin(), tensor(2).values.end());
  values.back() = INFINITY;
  tensor(2).values = values;
  const absl::Status status = Read();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part :
       {std::string(" is missing"), std::string("extra.weight belongs to no layer"),
        reshaped + " is [", infinite + " has values that are not finite"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << "\n" << status;
  }
}

TEST_P(InitialWeightsTest, OfSomeLayersLeaveTheOthersAlone) {
  initial_.add_layers("classes");
  parameters_.assign(parameters_.size(), 0.5f);
  ASSERT_TRUE(Read().ok());
  for (const NetworkTensor& t : network_.parameters()) {
    const bool wanted = t.name.starts_with("classes.");
    EXPECT_EQ(parameters_[t.offset] != 0.5f, wanted) << t.name;
  }
  EXPECT_EQ(buffers_, std::vector<float>(buffers_.size()));
  std::erase_if(tensors_, [](const auto& t) { return t.name.starts_with("classes"); });
  EXPECT_FALSE(Read().ok());
}

TEST_P(InitialWeightsTest, CheckNamesBeforeAnythingIsRead) {
  EXPECT_TRUE(CheckInitialWeights(network_, initial_).ok());
  initial_.add_layers("norm");
  initial_.add_layers("clases");
  EXPECT_EQ(CheckInitialWeights(network_, initial_).message(),
            "initial_weights.layers[1]: the model has no layer \"clases\" with weights");
  initial_.set_naming("onnx");
  EXPECT_EQ(CheckInitialWeights(network_, initial_).message(),
            "initial_weights.naming: must be lockstep, keras or pytorch; got \"onnx\"");
}

INSTANTIATE_TEST_SUITE_P(Peers, InitialWeightsTest, testing::ValuesIn(ReadGolden("peer_weights")),
                         [](const auto& info) { return info.param.name; });

// Keras counts what a Normalization has adapted to, and keeps given statistics elsewhere.
TEST(InitialWeights, OfKerasNormalizations) {
  auto spec = ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[2]}],"layers":[
      {"name":"adapted","normalization":{}},
      {"name":"given","normalization":{"mean":[3],"variance":[4, 5]}}]})");
  const Network network = *Network::Build(&spec);
  std::vector<float> buffers(network.buffers_size());
  network.Initialize(0, {}, buffers);
  const std::vector<float> mean = {0.5f, 1.5f}, variance = {2.0f, 7.0f}, count = {60.0f};
  v1::InitialWeights initial;
  const auto read = [&](const std::string& naming, const std::string& separator) {
    initial.set_naming(naming);
    const std::string prefix = "adapted" + separator;
    const std::vector<FloatTensorView> tensors = {{prefix + "mean", {2}, mean},
                                                  {prefix + "variance", {2}, variance},
                                                  {prefix + "count", {1}, count}};
    return ReadInitialWeights(network, spec, initial, WriteSafetensors({}, tensors), {}, buffers);
  };
  const absl::Status status = read("keras", "/");
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<std::vector<float>> expected = {mean, variance, {3, 3}, {4, 5}};
  for (size_t i = 0; i < expected.size(); ++i) {
    const NetworkTensor& t = network.buffers()[i];
    EXPECT_EQ(std::vector<float>(&buffers[t.offset], &buffers[t.offset] + t.size), expected[i])
        << t.name;
  }
  EXPECT_EQ(read("lockstep", ".").message(),
            "initial_weights: they do not fit the model: adapted.count belongs to no layer");
}

// Nodes at the network's edges have no layer in the spec.
TEST(InitialWeights, OfAModelWithSeveralInputsAndOutputs) {
  auto spec = ParseJson<v1::ModelSpec>(R"({
      "inputs":[{"name":"image","shape":[1,2,2]},{"name":"row","shape":[2]}],"layers":[
      {"inputs":["image"],"flatten":{}},
      {"name":"left","dense":{"units":1,"useBias":false}},
      {"name":"right","inputs":["row"],"dense":{"units":2,"useBias":false}}],
      "outputs":["left","right"]})");
  const Network network = *Network::Build(&spec);
  std::vector<float> parameters(network.parameters_size());
  const std::vector<float> left = {1, 2, 3, 4}, right = {5, 6, 7, 8};
  v1::InitialWeights initial;
  initial.set_naming("pytorch");
  const std::vector<FloatTensorView> tensors = {{"left.weight", {1, 4}, left},
                                                {"right.weight", {2, 2}, right}};
  const absl::Status status =
      ReadInitialWeights(network, spec, initial, WriteSafetensors({}, tensors), parameters, {});
  ASSERT_TRUE(status.ok()) << status;
  const auto values = [&](int i) {
    const NetworkTensor& t = network.parameters()[i];
    return std::vector<float>(&parameters[t.offset], &parameters[t.offset] + t.size);
  };
  EXPECT_EQ(values(0), (std::vector<float>{1, 3, 2, 4}));  // channels last
  EXPECT_EQ(values(1), (std::vector<float>{5, 7, 6, 8}));
}

}  // namespace
}  // namespace lockstep
