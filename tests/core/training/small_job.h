#ifndef LOCKSTEP_TESTS_CORE_TRAINING_SMALL_JOB_H_
#define LOCKSTEP_TESTS_CORE_TRAINING_SMALL_JOB_H_

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/data/digest.h"
#include "core/training/trainer.h"
#include "tests/core/parse_json.h"

namespace lockstep {

// A tensor with these values, converted.
template <typename T>
Tensor MakeTensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  Tensor tensor = {dtype, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

// Inputs, labels or targets and perhaps weights, and the data set they would be registered as.
struct SmallData {
  Tensor x;
  Tensor y;
  std::optional<Tensor> weight = std::nullopt;

  LabelledData view() const {
    LabelledData view = {{x}, {y}};
    if (weight) view.sample_weight = *weight;
    return view;
  }
  v1::Dataset Describe(const std::string& name) const {
    v1::Dataset dataset;
    dataset.set_name(name);
    for (const auto& [tensor_name, tensor] : {std::pair("x", &x), std::pair("y", &y),
                                              std::pair("weight", weight ? &*weight : nullptr)}) {
      if (tensor == nullptr) continue;
      v1::Tensor& described = *dataset.add_tensors();
      described.set_name(tensor_name);
      described.set_dtype(std::string(DTypeName(tensor->dtype)));
      described.mutable_shape()->Add(tensor->shape.begin(), tensor->shape.end());
      described.mutable_blob()->set_sha256(Sha256(tensor->bytes));
      described.mutable_blob()->set_size_bytes(static_cast<int64_t>(tensor->bytes.size()));
    }
    return dataset;
  }
};

// Numbers around 0 in three classes that a straight line nearly tells apart. Its generator is the
// standard's own, so every machine has the same.
inline SmallData MakeVectors(int64_t samples, int64_t features, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> x(samples * features);
  std::vector<uint8_t> y(samples);
  for (int64_t n = 0; n < samples; ++n) {
    y[n] = random() % 3;
    for (int64_t i = 0; i < features; ++i) {
      const float noise = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
      x[n * features + i] = noise + (i % 3 == y[n] ? 0.4f : 0.0f);
    }
  }
  return {MakeTensor(DType::kFloat32, {samples, features}, x),
          MakeTensor(DType::kUint8, {samples}, y)};
}

// Noisy 8-bit images of 8 x 8, brighter in the part that their class says.
inline SmallData MakeImages(int64_t samples, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> x(samples * 64);
  std::vector<uint8_t> y(samples);
  for (int64_t n = 0; n < samples; ++n) {
    y[n] = random() % 3;
    for (int64_t i = 0; i < 64; ++i) {
      x[n * 64 + i] = static_cast<uint8_t>(random() % 128 + (i / 22 == y[n] ? 100 : 0));
    }
  }
  return {MakeTensor(DType::kUint8, {samples, 8, 8, 1}, x),
          MakeTensor(DType::kUint8, {samples}, y)};
}

inline v1::JobSpec MlpJob() {
  return ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[20]}],"layers":[
        {"dense":{"units":16,"activation":"relu"}}, {"batchNormalization":{}},
        {"dense":{"units":3,"activation":"softmax"}}]},
      "data":{"train":{"dataset":"small"}},
      "training":{"batchSize":24,"epochs":2,"seed":1,
        "losses":[{"sparseCategoricalCrossentropy":{}}],"metrics":["accuracy"]}})");
}

// What the others leave out: a residual graph, strides, dilation, groups, a depthwise convolution,
// chunks of several segments, average pooling, dropout, momentum.
inline v1::JobSpec ResidualJob() {
  return ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[8,8,1],"scale":0.00392156862745098}],"layers":[
        {"name":"stem","conv2d":{"filters":72,"kernelSize":[3],"padding":"same","useBias":false}},
        {"name":"norm","batchNormalization":{}},
        {"name":"relu","activation":{"activation":"relu"}},
        {"conv2d":{"filters":24,"kernelSize":[3],"strides":[2],"padding":"same"}},
        {"batchNormalization":{}},
        {"activation":{"activation":"tanh"}},
        {"conv2d":{"filters":24,"kernelSize":[3],"groups":24,"padding":"same"}},
        {"name":"main","conv2d":{"filters":24,"kernelSize":[3],"groups":3,"dilationRate":[2],"padding":"same"}},
        {"name":"shortcut","inputs":["relu"],"conv2d":{"filters":24,"kernelSize":[1],"strides":[2]}},
        {"inputs":["main","shortcut"],"add":{}},
        {"batchNormalization":{}},
        {"activation":{"activation":"relu"}},
        {"globalAveragePooling2d":{}}, {"dropout":{"rate":0.2}},
        {"dense":{"units":3,"activation":"softmax"}}]},
      "data":{"train":{"dataset":"small"}},
      "training":{"batchSize":40,"epochs":2,"seed":3,
        "optimizer":{"sgd":{"learningRate":0.05,"momentum":0.9}},
        "losses":[{"sparseCategoricalCrossentropy":{}}],"metrics":["accuracy"]}})");
}

inline v1::JobSpec CnnJob() {
  return ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[8,8,1],"scale":0.00392156862745098}],"layers":[
        {"conv2d":{"filters":4,"kernelSize":[3],"padding":"same","activation":"relu"}},
        {"batchNormalization":{}}, {"maxPooling2d":{}},
        {"conv2d":{"filters":5,"kernelSize":[3],"strides":[2],"padding":"same"}},
        {"batchNormalization":{}}, {"activation":{"activation":"tanh"}}, {"dropout":{"rate":0.25}},
        {"flatten":{}}, {"dense":{"units":3}}]},
      "data":{"train":{"dataset":"small"}},
      "training":{"batchSize":24,"epochs":2,"seed":1,
        "optimizer":{"sgd":{"learningRate":0.1,"momentum":0.9,"nesterov":true}},
        "losses":[{"sparseCategoricalCrossentropy":{"fromLogits":true}}],"metrics":["accuracy"]}})");
}

inline JobPlan PlanOrDie(const v1::JobSpec& spec, const SmallData& train,
                         const SmallData* validation = nullptr) {
  v1::Dataset validation_set;
  if (validation != nullptr) validation_set = validation->Describe("validation");
  auto plan = PlanJob(spec, train.Describe("small"),
                      validation != nullptr ? &validation_set : nullptr, int64_t{1} << 30);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

// What a whole training gave.
struct Trained {
  std::string state_hash;
  std::string weights;
  std::vector<v1::Event> events;  // without timing
};

inline const v1::EpochRecord& LastEpoch(const Trained& trained) {
  for (auto event = trained.events.rbegin(); event != trained.events.rend(); ++event) {
    if (event->has_epoch()) return event->epoch();
  }
  ADD_FAILURE() << "there is no epoch";
  return v1::EpochRecord::default_instance();
}

inline Trained Train(const v1::JobSpec& spec, const SmallData& train, int threads,
                     const SmallData* validation = nullptr) {
  ThreadPool pool(threads);
  std::optional<LabelledData> validation_data;
  if (validation != nullptr) validation_data = validation->view();
  auto trainer =
      Trainer::Create(PlanOrDie(spec, train, validation), train.view(), validation_data, &pool);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  while (!(*trainer)->done()) {
    const absl::Status status = (*trainer)->Step();
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) break;
  }
  Trained trained = {(*trainer)->StateHash(), (*trainer)->SerializeWeights(),
                     (*trainer)->TakeEvents()};
  for (v1::Event& event : trained.events) {
    if (event.has_step()) event.mutable_step()->clear_timing();
    if (event.has_epoch()) event.mutable_epoch()->clear_timing();
  }
  return trained;
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_TRAINING_SMALL_JOB_H_
