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

}  // namespace
}  // namespace lockstep
