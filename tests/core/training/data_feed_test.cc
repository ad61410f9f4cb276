// From a data set's bytes to a batch, and from gradients to weights over any number of threads.

#include "core/training/data_feed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "core/training/optimizer.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

constexpr int64_t kSamples = 5;
constexpr int64_t kSize = 19;  // with whole vectors and a rest
constexpr DType kTypes[] = {DType::kUint8, DType::kInt8,  DType::kUint16,  DType::kInt16,
                            DType::kInt32, DType::kInt64, DType::kFloat32, DType::kFloat64};

// 0, 1, ..., in elements of type `dtype`.
Tensor Counting(DType dtype, std::vector<int64_t> shape) {
  const auto make = [&](auto zero) {
    std::vector<decltype(zero)> values(ElementCount(shape));
    std::iota(values.begin(), values.end(), zero);
    return MakeTensor(dtype, shape, values);
  };
  switch (dtype) {
    case DType::kUint8:
      return make(uint8_t{0});
    case DType::kInt8:
      return make(int8_t{0});
    case DType::kUint16:
      return make(uint16_t{0});
    case DType::kInt16:
      return make(int16_t{0});
    case DType::kInt32:
      return make(int32_t{0});
    case DType::kInt64:
      return make(int64_t{0});
    case DType::kFloat32:
      return make(0.0f);
    case DType::kFloat64:
      return make(0.0);
  }
  return {};
}

// Of one output with so many values.
std::vector<Objective> Objectives(const char* loss, int64_t columns) {
  return {{.prefix = "",
           .begin = 0,
           .columns = columns,
           .weight = 1,
           .loss = Loss(ParseJson<v1::Loss>(loss)),
           .metrics = {}}};
}
const char kLabels[] = R"({"sparseCategoricalCrossentropy":{}})";
const char kValues[] = R"({"meanSquaredError":{}})";

Network BuildNetwork() {
  auto spec = ParseJson<v1::ModelSpec>(R"({
      "inputs":[{"shape":[19],"scale":0.3,"offset":-7.1}],"layers":[{"dense":{"units":2}}]})");
  return *Network::Build(&spec);
}

// The same numbers make the same batch, however a data set stores them.
TEST(DataFeedTest, EveryElementTypeGivesTheSameInputs) {
  const Network network = BuildNetwork();
  const Tensor labels = Counting(DType::kUint8, {kSamples});
  const std::vector<int32_t> samples = {4, 0, 3, 3};
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
    for (DType dtype : kTypes) {
      SCOPED_TRACE(std::string((*table)->name) + " " + std::string(DTypeName(dtype)));
      const Tensor x = Counting(dtype, {kSamples, kSize});
      const auto feed =
          DataFeed::Create("data.train", {{x}, {labels}}, network, Objectives(kLabels, kSamples));
      ASSERT_TRUE(feed.ok()) << feed.status();
      EXPECT_EQ(feed->samples(), kSamples);
      std::vector<float> batch(samples.size() * kSize);
      feed->Inputs(**table, samples, batch.data());
      for (size_t i = 0; i < batch.size(); ++i) {
        const auto raw = static_cast<float>(samples[i / kSize] * kSize + i % kSize);
        // model.proto: "value * scale + offset, rounded once".
        ASSERT_EQ(batch[i], std::fma(raw, 0.3f, -7.1f)) << i;
      }
    }
  }
}

TEST(DataFeedTest, EveryIntegerTypeGivesTheSameLabels) {
  const Network network = BuildNetwork();
  const Tensor x = Counting(DType::kUint8, {kSamples, kSize});
  const std::vector<int32_t> samples = {4, 0, 3, 3};
  for (DType dtype : std::span(kTypes).first(6)) {
    for (const auto& shape : {std::vector<int64_t>{kSamples}, {kSamples, 1}}) {
      const Tensor y = Counting(dtype, shape);
      const auto feed =
          DataFeed::Create("data.train", {{x}, {y}}, network, Objectives(kLabels, kSamples));
      ASSERT_TRUE(feed.ok()) << feed.status();
      TargetMemory memory = feed->MakeTargetMemory(0, std::ssize(samples));
      const Targets targets = feed->GatherTargets(0, samples, memory);
      EXPECT_EQ(std::vector(targets.labels, targets.labels + samples.size()), samples)
          << DTypeName(dtype);
      EXPECT_EQ(targets.values, nullptr);
      EXPECT_EQ(targets.weights, nullptr);
    }
  }
}

TEST(DataFeedTest, EveryElementTypeGivesTheSameValues) {
  const Network network = BuildNetwork();
  const Tensor x = Counting(DType::kUint8, {kSamples, kSize});
  const std::vector<int32_t> samples = {4, 0, 3};
  for (DType dtype : kTypes) {
    const Tensor y = Counting(dtype, {kSamples, 2});
    const auto feed = DataFeed::Create("data.train", {{x}, {y}}, network, Objectives(kValues, 2));
    ASSERT_TRUE(feed.ok()) << feed.status();
    TargetMemory memory = feed->MakeTargetMemory(0, std::ssize(samples));
    const Targets targets = feed->GatherTargets(0, samples, memory);
    EXPECT_EQ(std::vector(targets.values, targets.values + 6),
              (std::vector<float>{8, 9, 0, 1, 6, 7}))
        << DTypeName(dtype);
  }
}

TEST(DataFeedTest, EveryElementTypeGivesTheSameWeights) {
  const Network network = BuildNetwork();
  const Tensor x = Counting(DType::kUint8, {kSamples, kSize});
  const Tensor y = Counting(DType::kUint8, {kSamples});
  const std::vector<int32_t> samples = {4, 0, 3};
  for (DType dtype : kTypes) {
    const auto feed =
        DataFeed::Create("data.train", {{x}, {y}, TensorView(Counting(dtype, {kSamples}))}, network,
                         Objectives(kLabels, kSamples));
    ASSERT_TRUE(feed.ok()) << feed.status();
    TargetMemory memory = feed->MakeTargetMemory(0, 64);
    const Targets targets = feed->GatherTargets(0, samples, memory);
    EXPECT_EQ(std::vector(targets.weights, targets.weights + 3), (std::vector<float>{4, 0, 3}))
        << DTypeName(dtype);
  }
}

TEST(DataFeedTest, RefusesWeightsAndTargetsOutOfRange) {
  const Network network = BuildNetwork();
  const Tensor x = Counting(DType::kUint8, {kSamples, kSize});
  const auto refused = [&](const char* loss, const Tensor& y, const std::optional<Tensor>& weight,
                           const std::string& message) {
    LabelledData data = {{x}, {y}};
    if (weight) data.sample_weight = *weight;
    const auto feed = DataFeed::Create("data.train", data, network, Objectives(loss, 2));
    ASSERT_FALSE(feed.ok()) << "accepted, instead of: " << message;
    EXPECT_EQ(feed.status().message(), message);
  };
  const auto weights = [](float third) {
    return MakeTensor(DType::kFloat32, {kSamples}, std::vector<float>{1, 1, third, 1, 1});
  };
  const Tensor labels = MakeTensor(DType::kUint8, {kSamples}, std::vector<uint8_t>(kSamples));
  refused(kLabels, labels, weights(-0.5f),
          "data.train.sample_weight: of sample 2 is -0.5; must be >= 0");
  refused(kLabels, labels, weights(std::nanf("")),
          "data.train.sample_weight: value 0 of sample 2 is nan; must be a finite 32-bit float");
  refused(kLabels, labels,
          MakeTensor(DType::kInt8, {kSamples}, std::vector<int8_t>{0, -3, 0, 0, 0}),
          "data.train.sample_weight: of sample 1 is -3; must be >= 0");
  for (const char* loss : {R"({"binaryCrossentropy":{}})", R"({"categoricalCrossentropy":{}})"}) {
    std::vector<float> targets(2 * kSamples, 1);
    targets[7] = 1.5f;
    refused(loss, MakeTensor(DType::kFloat32, {kSamples, 2}, targets), std::nullopt,
            "data.train.y: value 1 of sample 3 is 1.5; must be within [0, 1]");
  }
}

// Mapped files and tensors behind a header need not be aligned.
TEST(DataFeedTest, TakesUnalignedBytes) {
  const Network network = BuildNetwork();
  const Tensor x = Counting(DType::kFloat64, {kSamples, kSize});
  const Tensor y = Counting(DType::kInt64, {kSamples});
  const auto shifted = [](const Tensor& tensor, std::vector<std::byte>& memory) {
    memory.assign(1, std::byte{0});
    memory.insert(memory.end(), tensor.bytes.begin(), tensor.bytes.end());
    return TensorView(tensor.dtype, tensor.shape, std::span(memory).subspan(1));
  };
  std::vector<std::byte> x_bytes, y_bytes;
  const auto feed = DataFeed::Create("data.train", {{shifted(x, x_bytes)}, {shifted(y, y_bytes)}},
                                     network, Objectives(kLabels, kSamples));
  ASSERT_TRUE(feed.ok()) << feed.status();
  std::vector<float> batch(kSize);
  const int32_t sample = 2;
  feed->Inputs(*kernels::Kernels(), {&sample, 1}, batch.data());
  EXPECT_EQ(batch[1], std::fma(39.0f, 0.3f, -7.1f));
}

// Contract: threads split the flat vector wherever they like.
TEST(OptimizerTest, ThreadsDoNotMatter) {
  constexpr int64_t kParameters = 20003;
  std::mt19937 random(1);
  std::vector<float> gradient(kParameters);
  for (float& g : gradient) g = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  for (const char* json :
       {R"({"sgd":{"learningRate":0.01}})", R"({"sgd":{"learningRate":0.01,"momentum":0.9}})",
        R"({"sgd":{"learningRate":0.01,"momentum":0.9,"nesterov":true}})",
        R"({"adam":{"learningRate":0.001,"beta1":0.9,"beta2":0.999,"epsilon":1e-7}})",
        R"({"rmsprop":{"rho":0.9,"epsilon":1e-7}})",
        R"({"rmsprop":{"rho":0.9,"epsilon":1e-7,"momentum":0.5,"centered":true}})"}) {
    const auto spec = ParseJson<v1::Optimizer>(json);
    const auto train = [&](int threads) {
      ThreadPool pool(threads);
      Optimizer optimizer(spec, kParameters);
      std::vector<float> weights(kParameters, 0.1f);
      for (int step = 1; step <= 3; ++step) {
        optimizer.Apply(*kernels::Kernels(), pool, step, 0.01, {0, kParameters}, gradient, weights);
      }
      EXPECT_EQ(std::ssize(optimizer.slots()), Optimizer::SlotCount(spec));
      for (const auto& slot : optimizer.slots()) {
        weights.insert(weights.end(), slot.span().begin(), slot.span().end());
      }
      return weights;
    };
    const std::vector<float> one = train(1);
    EXPECT_NE(one[0], 0.1f);
    for (int threads : {2, 3, 8}) EXPECT_EQ(train(threads), one) << json;
  }
}

}  // namespace
}  // namespace lockstep
