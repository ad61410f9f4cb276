// Normalizations that take the training set's statistics when a job starts.

#include "core/training/input_moments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

using Tensors = std::map<std::string, std::vector<float>>;

Tensors ReadTensors(const std::string& file) {
  Tensors tensors;
  const auto read = ReadSafetensors(file);
  EXPECT_TRUE(read.ok()) << read.status();
  for (const FloatTensorView& t : read->tensors) {
    tensors[t.name].assign(t.values.begin(), t.values.end());
  }
  return tensors;
}

constexpr int64_t kFeatures = 6;

// Two features a position; one of 2500 samples in five is kept for validation.
v1::JobSpec Job() {
  return ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[3,2],"scale":0.5,"offset":100}],"layers":[
        {"name":"raw","normalization":{}},
        {"name":"half","inputs":["input"],"rescaling":{"scale":0.5,"offset":-1}},
        {"name":"scaled","normalization":{}},
        {"name":"given","normalization":{"mean":[0.25,-1],"variance":[4]}},
        {"name":"sum","inputs":["raw","given"],"add":{}},
        {"flatten":{}}, {"dense":{"units":3,"activation":"softmax"}}]},
      "data":{"train":{"dataset":"small"},"validationSplit":0.2},
      "training":{"batchSize":500,"epochs":1,"seed":1,
        "losses":[{"sparseCategoricalCrossentropy":{}}]}})");
}

SmallData Data() {
  SmallData data = MakeVectors(2500, kFeatures, 4);
  data.x.shape = {2500, 3, 2};
  return data;
}

// Of what enters, scaled as the layers do it, over the first `samples` samples.
void ExpectStatistics(const SmallData& data, int64_t samples, float scale, float offset,
                      const Tensors& got, const std::string& layer) {
  const auto* x = reinterpret_cast<const float*>(data.x.bytes.data());
  for (int64_t c = 0; c < 2; ++c) {
    const auto value = [&](int64_t i) {
      const float input = std::fma(x[2 * i + c], 0.5f, 100.0f);
      return static_cast<long double>(scale == 1 ? input : std::fma(input, scale, offset));
    };
    const int64_t count = samples * 3;
    long double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; ++i) mean += value(i);
    mean /= count;
    for (int64_t i = 0; i < count; ++i) variance += (value(i) - mean) * (value(i) - mean);
    variance /= count;
    EXPECT_FLOAT_EQ(got.at(layer + ".mean")[c], static_cast<float>(mean)) << layer << c;
    EXPECT_FLOAT_EQ(got.at(layer + ".variance")[c], static_cast<float>(variance)) << layer << c;
  }
}

TEST(AdaptedNormalization, TakesTheTrainingSamplesStatistics) {
  const SmallData data = Data();
  const Tensors trained = ReadTensors(Train(Job(), data, 2).weights);
  ExpectStatistics(data, 2000, 1, 0, trained, "raw");
  ExpectStatistics(data, 2000, 0.5f, -1, trained, "scaled");
  EXPECT_EQ(trained.at("given.mean"), (std::vector<float>{0.25f, -1}));
  EXPECT_EQ(trained.at("given.variance"), (std::vector<float>{4, 4}));
}

TEST(AdaptedNormalization, ThreadsDoNotMatter) {
  const SmallData data = Data();
  const Trained one = Train(Job(), data, 1);
  for (int threads : {2, 3, 4}) {
    const Trained other = Train(Job(), data, threads);
    EXPECT_EQ(other.state_hash, one.state_hash) << threads;
    EXPECT_EQ(other.weights, one.weights) << threads;
  }
}

TEST(AdaptedNormalization, GivesWhatKerasAdaptsTo) {
  int adapted = 0;
  for (const GoldenCase& golden : ReadGolden("normalization")) {
    if (!golden.name.starts_with("adapted")) continue;
    ++adapted;
    const GoldenTensor& x = golden["x"];
    v1::JobSpec job = Job();
    *job.mutable_model() = ParseJson<v1::ModelSpec>(R"({"inputs":[{}],"layers":[
        {"normalization":{}}, {"flatten":{}}, {"dense":{"units":3,"activation":"softmax"}}]})");
    job.mutable_model()->mutable_inputs(0)->mutable_shape()->Add(x.shape.begin() + 1,
                                                                 x.shape.end());
    job.mutable_data()->clear_validation_split();
    job.mutable_training()->set_batch_size(x.shape[0]);
    const SmallData data = {
        MakeTensor(DType::kFloat32, x.shape, x.values),
        MakeTensor(DType::kUint8, {x.shape[0]}, std::vector<uint8_t>(x.shape[0]))};
    const Tensors trained = ReadTensors(Train(job, data, 2).weights);
    ExpectClose(trained.at("normalization.mean"), golden["mean"], golden.name + " mean");
    ExpectClose(trained.at("normalization.variance"), golden["variance"], golden.name);
  }
  EXPECT_EQ(adapted, 2);
}

// The second of two inputs, which alone goes through a layer first.
TEST(AdaptedNormalization, ReadsOneOfSeveralInputs) {
  auto model = ParseJson<v1::ModelSpec>(R"({
      "inputs":[{"name":"a","shape":[3]},{"name":"b","shape":[2],"scale":2}],"layers":[
        {"name":"left","inputs":["a"],"normalization":{}},
        {"name":"less","inputs":["b"],"rescaling":{"offset":-1}},
        {"name":"right","normalization":{}},
        {"inputs":["left","right"],"concatenate":{}},{"dense":{"units":1}}]})");
  const Network network = *Network::Build(&model);
  const Tensor a = MakeTensor(DType::kFloat32, {2, 3}, std::vector<float>{1, 2, 3, 3, 2, 7});
  const Tensor b = MakeTensor(DType::kFloat32, {2, 2}, std::vector<float>{0, 5, 1, 1});
  const auto feed = DataFeed::Create("data.train", {{a, b}, {}}, network, {});
  ASSERT_TRUE(feed.ok()) << feed.status();
  ThreadPool pool(2);
  const std::vector<float> parameters(network.parameters_size());
  std::vector<float> buffers(network.buffers_size());
  const absl::Status status =
      AdaptNormalizations(network, model, parameters.data(), buffers, *feed, 2, pool);
  ASSERT_TRUE(status.ok()) << status;
  const Tensors got = ReadTensors(WriteWeights(network, model, 0, parameters, buffers));
  EXPECT_EQ(got.at("left.mean"), (std::vector<float>{2, 2, 5}));
  EXPECT_EQ(got.at("left.variance"), (std::vector<float>{1, 0, 4}));
  EXPECT_EQ(got.at("right.mean"), (std::vector<float>{0, 5}));
  EXPECT_EQ(got.at("right.variance"), (std::vector<float>{1, 16}));
}

// What a model was trained with stays with it, whatever data it is trained on later.
TEST(AdaptedNormalization, InitialWeightsWin) {
  const std::string file = Train(Job(), Data(), 1).weights;
  const Tensors before = ReadTensors(file);
  v1::JobSpec job = Job();
  job.mutable_initial_weights()->mutable_safetensors()->set_sha256(Sha256(file));
  SmallData other = MakeVectors(1000, kFeatures, 5);
  other.x.shape = {1000, 3, 2};
  ThreadPool pool(2);
  for (const bool only_raw : {false, true}) {
    if (only_raw) job.mutable_initial_weights()->add_layers("raw");
    auto trainer = Trainer::Create(PlanOrDie(job, other), other.view(), std::nullopt, &pool, file);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    const Tensors after = ReadTensors((*trainer)->SerializeWeights());
    EXPECT_EQ(after.at("raw.mean"), before.at("raw.mean"));
    EXPECT_EQ(after.at("raw.variance"), before.at("raw.variance"));
    EXPECT_EQ(after.at("scaled.mean") == before.at("scaled.mean"), !only_raw);
  }
}

TEST(AdaptedNormalization, RefusesValuesThatRescalingMadeInfinite) {
  v1::JobSpec job = Job();
  job.mutable_model()->mutable_layers(1)->mutable_rescaling()->set_scale(3e38f);
  const SmallData data = Data();
  ThreadPool pool(1);
  const auto trainer = Trainer::Create(PlanOrDie(job, data), data.view(), std::nullopt, &pool);
  EXPECT_EQ(trainer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(trainer.status().message(),
            "\"scaled\" (model.layers[2].normalization) reads values that are not finite");
}

}  // namespace
}  // namespace lockstep
