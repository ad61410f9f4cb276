// Inference: which BatchNorms are folded and to which bits; no row's bits depend on the others.

#include "core/inference/inference_pass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "tests/core/inference/weights.h"
#include "tests/core/network/networks.h"

namespace lockstep {
namespace {

using Floats = std::vector<float>;

// All `samples` of x in one call.
Floats Predict(const Network& network, const Weights& weights, const kernels::KernelTable& kernels,
               int64_t samples, const float* x) {
  InferencePass pass(network, std::vector<bool>(network.outputs().size()));
  pass.SetWeights(kernels, weights.parameters.data(), weights.buffers.data());
  AlignedBuffer<std::byte> memory(pass.MemoryBytes());
  Floats y(samples * network.output().size());
  pass.Run(kernels, samples, x, y.data(), memory.data());
  return y;
}

std::span<const float> Tensor(std::span<const NetworkTensor> tensors, const Floats& flat,
                              const std::string& name) {
  for (const NetworkTensor& tensor : tensors) {
    if (tensor.name == name) return std::span(flat).subspan(tensor.offset, tensor.size);
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

// A network in which "norm", an affine map of the defaults' epsilon, may follow "linear".
class FoldingTest : public testing::Test {
 protected:
  static constexpr int64_t kSamples = 7;
  static constexpr double kEpsilon = 1e-3;

  // `linear` and `after` are layers; the whole network has "norm" between them, `alone` neither.
  void Build(const std::string& input, const std::string& linear, const std::string& after = "") {
    const std::string head = R"({"inputs": [{"shape": )" + input + R"(}], "layers": [)" + linear;
    whole_ = BuildNetwork(head + R"(, {"name": "norm", "batch_normalization": {}})" + after + "]}");
    alone_ = BuildNetwork(head + "]}");
    weights_.emplace(*whole_, 1);
    x_ = RandomFloats(kSamples * whole_->input().size(), 3);
  }

  Floats RunWhole() const {
    return Predict(*whole_, *weights_, *kernels::Kernels(), kSamples, x_.data());
  }

  // "linear" alone with its kernel times s and its bias b * s + t, all in double and rounded once,
  // where s = gamma / sqrt(variance + epsilon) and t = beta - mean * s; or with its own.
  Floats RunAlone(bool folded) const {
    Weights weights(*alone_, 1);
    const auto mine = [&](const std::string& name) {
      return Tensor(whole_->parameters(), weights_->parameters, name);
    };
    const bool has_bias = whole_->parameters()[1].name == "linear.bias";
    for (const NetworkTensor& tensor : alone_->parameters()) {
      const bool is_bias = tensor.name == "linear.bias";
      for (int64_t i = 0; i < tensor.size; ++i) {
        const int64_t c = i % Channels();
        double value = is_bias && !has_bias ? 0.0 : mine(tensor.name)[i];
        if (folded) value *= Scale(c);
        if (folded && is_bias) value += Beta(c) - Mean(c) * Scale(c);
        weights.parameters[tensor.offset + i] = static_cast<float>(value);
      }
    }
    return Predict(*alone_, weights, *kernels::Kernels(), kSamples, x_.data());
  }

  // Rule 6 with the moving statistics.
  Floats Normalize(Floats x) const {
    for (size_t i = 0; i < x.size(); ++i) {
      const int64_t c = static_cast<int64_t>(i) % Channels();
      const float m = static_cast<float>(Mean(c));
      const float a = static_cast<float>(Scale(c));
      const float b = static_cast<float>(Beta(c) + (m - Mean(c)) * a);
      x[i] = std::fma(x[i] - m, a, b);
    }
    return x;
  }

  int64_t Channels() const { return alone_->output().channels(); }
  double Mean(int64_t c) const { return Buffer("moving_mean", c); }
  double Beta(int64_t c) const {
    return Tensor(whole_->parameters(), weights_->parameters, "norm.beta")[c];
  }
  double Scale(int64_t c) const {
    const double gamma = Tensor(whole_->parameters(), weights_->parameters, "norm.gamma")[c];
    return gamma / std::sqrt(Buffer("moving_variance", c) + kEpsilon);
  }
  double Buffer(const std::string& name, int64_t c) const {
    return Tensor(whole_->buffers(), weights_->buffers, "norm." + name)[c];
  }

  std::optional<Network> whole_, alone_;
  std::optional<Weights> weights_;
  Floats x_;
};

TEST_F(FoldingTest, OfConvolutionAndDense) {
  for (const auto& [input, linear] : {
           std::pair("[6, 5, 3]", R"("conv2d": {"filters": 4, "kernel_size": [3]})"),
           std::pair("[6, 5, 4]", R"("conv2d": {"filters": 8, "kernel_size": [3], "groups": 2})"),
           std::pair("[6, 5, 5]", R"("conv2d": {"filters": 5, "kernel_size": [2], "groups": 5})"),
           std::pair("[11]", R"("dense": {"units": 6})"),
       }) {
    SCOPED_TRACE(linear);
    Build(input, R"({"name": "linear", )" + std::string(linear) + "}");
    const Floats folded = RunAlone(/*folded=*/true);
    EXPECT_EQ(RunWhole(), folded);
    EXPECT_NE(Normalize(RunAlone(/*folded=*/false)), folded) << "both have the same bits";
  }
}

// Folding gives a layer without a bias one.
TEST_F(FoldingTest, IntoALayerWithoutBias) {
  const std::string linear = R"({"name": "linear", "dense": {"units": 6, "use_bias": )";
  Build("[11]", linear + "false}}");
  alone_ = BuildNetwork(R"({"inputs": [{"shape": [11]}], "layers": [)" + linear + "true}}]}");
  EXPECT_EQ(RunWhole(), RunAlone(/*folded=*/true));
}

TEST_F(FoldingTest, NotBehindAnActivation) {
  for (const char* linear :
       {R"({"name": "linear", "dense": {"units": 6, "activation": "relu"}})",
        R"({"name": "linear", "dense": {"units": 6}}, {"activation": {"activation": "tanh"}})"}) {
    SCOPED_TRACE(linear);
    Build("[11]", linear);
    EXPECT_EQ(RunWhole(), Normalize(RunAlone(/*folded=*/false)));
  }
}

TEST_F(FoldingTest, NotWithASecondReader) {
  for (const auto& [input, linear] : {
           std::pair("[6, 5, 3]", R"("conv2d": {"filters": 4, "kernel_size": [3]})"),
           std::pair("[11]", R"("dense": {"units": 6})"),
       }) {
    SCOPED_TRACE(linear);
    Build(input, R"({"name": "linear", )" + std::string(linear) + "}",
          R"(, {"add": {}, "inputs": ["norm", "linear"]})");
    const Floats x = RunAlone(/*folded=*/false);
    Floats expected = Normalize(x);
    for (size_t i = 0; i < x.size(); ++i) expected[i] += x[i];
    EXPECT_EQ(RunWhole(), expected);
  }
}

// The second of two is not: its own predecessor is a BatchNorm.
TEST_F(FoldingTest, OnceOnly) {
  Build("[11]", R"({"name": "linear", "dense": {"units": 6}})", R"(, {"name": "second",
      "batch_normalization": {"center": false, "scale": false,
                              "moving_mean_initializer": {"zeros": {}}}})");
  const Floats x = RunAlone(/*folded=*/true);
  const auto moving = [&](const std::string& name, int64_t c) -> double {
    return Tensor(whole_->buffers(), weights_->buffers, "second." + name)[c];
  };
  Floats expected = x;
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t c = static_cast<int64_t>(i) % Channels();
    const float m = static_cast<float>(moving("moving_mean", c));
    const float a = static_cast<float>(1.0 / std::sqrt(moving("moving_variance", c) + kEpsilon));
    expected[i] = std::fma(x[i] - m, a, 0.0f);
  }
  EXPECT_EQ(RunWhole(), expected);
}

TEST(InferencePass, GivesARowTheSameBitsInAnyBatchAndInstructionSet) {
  constexpr int64_t kMost = 130;
  std::vector<std::string> networks = {kResidualNetwork, kShapesNetwork, kNormalizedNetwork};
  for (uint32_t seed = 0; seed < 20; ++seed) networks.push_back(RandomNetwork(seed));
  for (const std::string& json : networks) {
    SCOPED_TRACE(json);
    const Network network = BuildNetwork(json);
    const Weights weights(network, 4);
    const Floats x = RandomFloats(kMost * network.input().size(), 5);
    Floats expected;
    for (int64_t n = 0; n < kMost; ++n) {
      const Floats row =
          Predict(network, weights, *kernels::Kernels(), 1, x.data() + n * network.input().size());
      expected.insert(expected.end(), row.begin(), row.end());
    }
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
         ++table) {
      for (int64_t samples : {1, 2, 3, 17, 63, 64, 65, 127, 128, 129, 130}) {
        const Floats first(expected.begin(), expected.begin() + samples * network.output().size());
        EXPECT_EQ(Predict(network, weights, **table, samples, x.data()), first)
            << samples << " samples, " << (*table)->name;
      }
    }
  }
}

TEST(InferencePass, OfViewsAloneIsACopy) {
  const Network network =
      BuildNetwork(R"({"inputs": [{"shape": [2, 3, 1]}], "layers": [{"flatten": {}}]})");
  const Floats x = RandomFloats(70 * 6, 1);
  EXPECT_EQ(Predict(network, Weights(network, 1), *kernels::Kernels(), 70, x.data()), x);
}

}  // namespace
}  // namespace lockstep
