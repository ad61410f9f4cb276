// Networks against what Keras 3 computes (tests/oracle): outputs, every gradient, moving
// statistics and inference, with every instruction set and with shards or without.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/inference/inference_pass.h"
#include "core/parallel/shards.h"
#include "tests/core/network/networks.h"
#include "tests/core/network/step_run.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

std::vector<float> Flat(const GoldenCase& golden, std::span<const NetworkTensor> tensors,
                        int64_t size) {
  std::vector<float> flat(size);
  for (const NetworkTensor& tensor : tensors) {
    EXPECT_EQ(golden[tensor.name].shape, tensor.spec.shape) << tensor.name;
    std::ranges::copy(golden[tensor.name].values, flat.begin() + tensor.offset);
  }
  return flat;
}

class NetworkOracleTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { golden_ = ReadGolden("network").at(GetParam()); }

  // Gradients of biases before a BatchNorm are zero: what is left of them is measured against 1.
  void ExpectTensors(std::span<const NetworkTensor> tensors, const std::vector<float>& flat,
                     const std::string& prefix, const std::string& suffix) const {
    for (const NetworkTensor& tensor : tensors) {
      const std::string name = prefix + tensor.name + suffix;
      ExpectClose(std::span(flat).subspan(tensor.offset, tensor.size), golden_[name], name, 1.0);
    }
  }

  GoldenCase golden_;
};

TEST_P(NetworkOracleTest, StepAndInference) {
  const Network network = BuildNetwork(golden_.spec);
  const StepInput input = {
      .parameters = Flat(golden_, network.parameters(), network.parameters_size()),
      .buffers = Flat(golden_, network.buffers(), network.buffers_size()),
      .x = golden_["x"].values,
      .dy = golden_["dy"].values};
  const int64_t samples = golden_["x"].shape[0];
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int count : {1, 4}) {
      SCOPED_TRACE((*table)->name + std::string(", shards: ") + std::to_string(count));
      std::vector<int64_t> shards;
      for (int v = 0; v <= count; ++v) shards.push_back(ShardBegin(samples, count, v));
      LocalCollective root(count);
      const StepBits bits = RunStep(network, input, shards, root, *table, 2);
      ExpectClose(bits.output, golden_["y"], "y");
      ExpectTensors(network.parameters(), bits.gradient, "d", "");
      ExpectTensors(network.buffers(), bits.buffers, "", "_after");
    }
    InferencePass pass(network, std::vector<bool>(network.outputs().size()));
    pass.SetWeights(**table, input.parameters.data(), input.buffers.data());
    AlignedBuffer<std::byte> memory(pass.MemoryBytes());
    std::vector<float> y(samples * network.output().size());
    pass.Run(**table, samples, input.x.data(), y.data(), memory.data());
    ExpectClose(y, golden_["y_inference"], "y in inference");
  }
}

// A residual network; one of many kinds of layers; one with two inputs and two outputs.
INSTANTIATE_TEST_SUITE_P(Network, NetworkOracleTest, testing::Range(0, 3));

}  // namespace
}  // namespace lockstep
