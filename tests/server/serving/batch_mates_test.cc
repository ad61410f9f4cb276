// The promise that an answer's bits do not depend on what else was in the batch, on a real network.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "core/data/tensor.h"
#include "core/formats/safetensors.h"
#include "core/inference/inference_model.h"
#include "google/protobuf/text_format.h"
#include "server/serving/batcher.h"
#include "tests/server/serving/puppets.h"

namespace lockstep {
namespace {

constexpr int64_t kInputSize = 9 * 7 * 2;
constexpr int64_t kOutputSize = 5;

constexpr char kSpec[] = R"pb(
  inputs {
    shape: [ 9, 7, 2 ]
    scale: 0.5
    offset: 0.125
  }
  layers { conv2d { filters: 6 kernel_size: 3 activation: "relu" } }
  layers { batch_normalization {} }
  layers { max_pooling2d {} }
  layers { conv2d { filters: 3 kernel_size: 2 padding: "same" } }
  layers { batch_normalization {} }
  layers { flatten {} }
  layers { dense { units: 5 activation: "softmax" } })pb";

std::vector<float> Uniform(int64_t count, float low, float high, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = low + (high - low) * (random() * 0x1p-32f);
  return values;
}

std::string Weights() {
  struct Entry {
    const char* name;
    std::vector<int64_t> shape;
    float low;
    float high;
  };
  const std::vector<Entry> entries = {
      {"conv2d.kernel", {3, 3, 2, 6}, -0.3f, 0.3f},
      {"conv2d.bias", {6}, -0.1f, 0.1f},
      {"batch_normalization.gamma", {6}, 0.5f, 1.5f},
      {"batch_normalization.beta", {6}, -0.5f, 0.5f},
      {"batch_normalization.moving_mean", {6}, -0.2f, 0.4f},
      {"batch_normalization.moving_variance", {6}, 0.1f, 2},
      {"conv2d_1.kernel", {2, 2, 6, 3}, -0.4f, 0.4f},
      {"conv2d_1.bias", {3}, -0.1f, 0.1f},
      {"batch_normalization_1.gamma", {3}, 0.5f, 1.5f},
      {"batch_normalization_1.beta", {3}, -0.5f, 0.5f},
      {"batch_normalization_1.moving_mean", {3}, -0.2f, 0.4f},
      {"batch_normalization_1.moving_variance", {3}, 0.1f, 2},
      {"dense.kernel", {3 * 2 * 3, 5}, -0.8f, 0.8f},
      {"dense.bias", {5}, -0.1f, 0.1f},
  };
  std::vector<std::vector<float>> values;
  std::vector<FloatTensorView> tensors;
  for (const Entry& entry : entries) {
    values.push_back(
        Uniform(ElementCount(entry.shape), entry.low, entry.high, 100 + values.size()));
    tensors.push_back({entry.name, entry.shape, values.back()});
  }
  return WriteSafetensors({}, tensors);
}

// The real network, behind a turnstile.
class HeldNetwork : public InferenceModel {
 public:
  explicit HeldNetwork(std::unique_ptr<const InferenceModel> network)
      : network_(std::move(network)) {}

  std::span<const ModelTensor> inputs() const override { return network_->inputs(); }
  std::span<const ModelTensor> outputs() const override { return network_->outputs(); }
  int64_t size_bytes() const override { return network_->size_bytes(); }
  void Predict(int64_t samples, std::span<const float> x, std::span<float> y,
               Arena& arena) const override {
    turnstile.Pass();
    network_->Predict(samples, x, y, arena);
  }

  mutable Turnstile turnstile;

 private:
  const std::unique_ptr<const InferenceModel> network_;
};

// The answers to `x`, cut into requests of these sizes that all wait at the same time.
std::vector<float> AskTogether(const HeldNetwork& network, std::span<const float> x,
                               const std::vector<int64_t>& sizes, int64_t max_batch_samples) {
  std::vector<std::vector<float>> answers(sizes.size());
  {
    Batcher batcher(&network, {.max_batch_samples = max_batch_samples});
    network.turnstile.Close();
    absl::BlockingCounter left(static_cast<int>(sizes.size()));
    for (size_t i = 0; i < sizes.size(); ++i) {
      batcher.Submit({.samples = sizes[i],
                      .x = {std::as_bytes(x.first(sizes[i] * kInputSize))},
                      .wanted = [] { return absl::OkStatus(); },
                      .done =
                          [&answers, &left, i](Batcher::Answer answer) {
                            answers[i] = *std::move(answer);
                            left.DecrementCount();
                          }});
      x = x.subspan(sizes[i] * kInputSize);
    }
    network.turnstile.Open();
    left.Wait();
  }
  std::vector<float> all;
  for (const auto& answer : answers) all.insert(all.end(), answer.begin(), answer.end());
  return all;
}

TEST(BatchMatesTest, ChangeNoBit) {
  v1::ModelSpec spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(kSpec, &spec));
  auto created = InferenceModel::Create(spec, Weights());
  ASSERT_TRUE(created.ok()) << created.status();
  const HeldNetwork network(*std::move(created));

  constexpr int64_t kSamples = 90;
  std::vector<float> x = Uniform(kSamples * kInputSize, -3, 3, 1);
  std::vector<float> alone(kSamples * kOutputSize);
  InferenceModel::Arena arena;
  for (int64_t i = 0; i < kSamples; ++i) {
    network.Predict(1, std::span(x).subspan(i * kInputSize, kInputSize),
                    std::span(alone).subspan(i * kOutputSize, kOutputSize), arena);
  }

  const std::vector<std::vector<int64_t>> cuts = {
      std::vector<int64_t>(kSamples, 1), {90}, {89, 1}, {1, 2, 3, 5, 8, 13, 21, 34, 3}};
  for (const std::vector<int64_t>& sizes : cuts) {
    ASSERT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), kSamples);
    for (int64_t max_batch_samples : {1, 7, 64, 1000}) {
      const std::vector<float> together = AskTogether(network, x, sizes, max_batch_samples);
      ASSERT_EQ(together.size(), alone.size());
      EXPECT_EQ(std::memcmp(together.data(), alone.data(), alone.size() * sizeof(float)), 0)
          << sizes.size() << " requests, passes of " << max_batch_samples;
    }
  }
}

}  // namespace
}  // namespace lockstep
