// A loaded model answers any number of threads at once, each answer to the same bits.

#include "core/inference/inference_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "core/network/weights_file.h"
#include "tests/core/inference/weights.h"
#include "tests/core/network/networks.h"

namespace lockstep {
namespace {

TEST(InferenceModel, AnswersEightThreadsAtOnceWithTheSameBits) {
  auto spec = ParseJson<v1::ModelSpec>(kResidualNetwork);
  spec.mutable_inputs(0)->set_scale(0.5f);
  spec.mutable_inputs(0)->set_offset(0.25f);
  const auto network = Network::Build(&spec);
  ASSERT_TRUE(network.ok()) << network.status();
  const Weights weights(*network, 1);
  const auto model = InferenceModel::Create(
      spec, WriteWeights(*network, spec, 1, weights.parameters, weights.buffers));
  ASSERT_TRUE(model.ok()) << model.status();

  constexpr int64_t kSamples = 100;
  const int64_t in = network->input().size();
  const int64_t out = network->output().size();
  const std::vector<float> x = RandomFloats(kSamples * in, 2);
  std::vector<float> expected(kSamples * out);
  InferenceModel::Arena arena;
  (*model)->Predict(kSamples, x, expected, arena);

  constexpr int kThreads = 8;
  std::vector<std::vector<float>> answers(kThreads, std::vector<float>(kSamples * out));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      InferenceModel::Arena own;
      const int64_t most = 1 + 11 * t;  // samples a call
      for (int64_t n = 0; n < kSamples; n += most) {
        const int64_t samples = std::min(most, kSamples - n);
        (*model)->Predict(samples, std::span(x).subspan(n * in, samples * in),
                          std::span(answers[t]).subspan(n * out, samples * out), own);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) EXPECT_EQ(answers[t], expected) << "thread " << t;
}

// An arena serves models of any size, one after the other.
TEST(InferenceModel, SharesAnArenaWithOthers) {
  InferenceModel::Arena arena;
  std::map<std::string, std::vector<float>> answers;
  for (const std::string units : {"3", "3000", "3"}) {
    auto spec =
        ParseJson<v1::ModelSpec>(R"({"inputs": [{"shape": [5]}], "layers": [{"dense": {"units": )" +
                                 units + R"(, "activation": "tanh"}}, {"dense": {"units": 2}}]})");
    const auto network = Network::Build(&spec);
    ASSERT_TRUE(network.ok()) << network.status();
    const Weights weights(*network, 1);
    const auto model = InferenceModel::Create(
        spec, WriteWeights(*network, spec, 1, weights.parameters, weights.buffers));
    ASSERT_TRUE(model.ok()) << model.status();
    const std::vector<float> x = RandomFloats(70 * 5, 2);
    std::vector<float> y(70 * 2);
    (*model)->Predict(70, x, y, arena);
    const auto [earlier, inserted] = answers.emplace(units, y);
    EXPECT_EQ(y, earlier->second);
  }
}

}  // namespace
}  // namespace lockstep
