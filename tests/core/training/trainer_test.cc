// "Same bits": what may not change a training's result, what must, and how a training that cannot
// go on ends.

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

v1::JobSpec WithBatches(v1::JobSpec spec, int64_t batch_size, int shards) {
  spec.mutable_training()->set_batch_size(batch_size);
  spec.mutable_training()->set_shards(shards);
  return spec;
}

void ExpectSame(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.state_hash, b.state_hash);
  EXPECT_TRUE(a.weights == b.weights);
  ASSERT_EQ(a.events.size(), b.events.size());
  for (size_t i = 0; i < a.events.size(); ++i) {
    EXPECT_EQ(a.events[i].SerializeAsString(), b.events[i].SerializeAsString())
        << a.events[i].DebugString() << b.events[i].DebugString();
  }
}

// The job's weights, hash and events are the same for any number of threads, and on a second run.
void ExpectThreadsDoNotMatter(const v1::JobSpec& spec, const SmallData& data,
                              const SmallData& validation) {
  SCOPED_TRACE("batch " + std::to_string(spec.training().batch_size()) + ", shards " +
               std::to_string(spec.training().shards()));
  const Trained one = Train(spec, data, 1, &validation);
  for (int threads : {1, 2, 3, 4, 8}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    ExpectSame(Train(spec, data, threads, &validation), one);
  }
}

struct Batches {
  int64_t size;
  int shards;
};
// Of the 100 samples below.
constexpr Batches kBatches[] = {
    {24, 1},  // a last batch of 4
    {64, 2},  // of 36
    {30, 7},  // shards of 4 and 5, then of 1 and 2
    {33, 8},  // a last batch of 1 in 8 shards: 7 are empty
    {8, 8},   // shards of one sample, then half of them empty
    {6, 16},  // more shards than samples, always
    {100, 256},
};

TEST(TrainerTest, ThreadsDoNotMatterToAnMlp) {
  const SmallData data = MakeVectors(100, 20, 1);
  const SmallData validation = MakeVectors(45, 20, 2);
  for (const Batches& batches : kBatches) {
    ExpectThreadsDoNotMatter(WithBatches(MlpJob(), batches.size, batches.shards), data, validation);
  }
}

TEST(TrainerTest, ThreadsDoNotMatterToACnn) {
  const SmallData data = MakeImages(100, 1);
  const SmallData validation = MakeImages(45, 2);
  for (const Batches& batches : kBatches) {
    for (const v1::JobSpec& job : {CnnJob(), ResidualJob()}) {
      ExpectThreadsDoNotMatter(WithBatches(job, batches.size, batches.shards), data, validation);
    }
  }
}

// Contract lockstep-1 in two numbers. Another number is a bug, or a change of the contract: of
// core/README.md and specification.h in the same commit, and of the contract's name once it is
// frozen.
TEST(TrainerTest, HashesAreTheContracts) {
  EXPECT_EQ(Train(WithBatches(MlpJob(), 64, 2), MakeVectors(100, 20, 1), 2).state_hash,
            "369eaa91cb8308b06269dc420d235dc44d3bc334253ddb8fe765a01122257c11");
  EXPECT_EQ(Train(WithBatches(CnnJob(), 30, 7), MakeImages(100, 1), 2).state_hash,
            "265ff5fbd5f6ed8e2d97c3016c09817b9021b81b9ddc2ae1a3eca5ab8250ffc7");
  EXPECT_EQ(Train(WithBatches(ResidualJob(), 40, 3), MakeImages(100, 2), 2).state_hash,
            "4d12c4eb45411afef1d211b8ab18bb8b2ea4530741c7b2ddb4f5fb77ddbc97cd");
}

// Negative control: a hash that everything passes would prove nothing.
TEST(TrainerTest, WhatTheContractNamesDoesMatter) {
  for (const bool cnn : {false, true}) {
    const SmallData data = cnn ? MakeImages(100, 1) : MakeVectors(100, 20, 1);
    const v1::JobSpec job = WithBatches(cnn ? CnnJob() : MlpJob(), 32, 4);
    v1::JobSpec seed = job;
    seed.mutable_training()->set_seed(2);
    v1::JobSpec unshuffled = job;
    unshuffled.mutable_training()->set_shuffle(false);
    v1::JobSpec epsilon = job;
    epsilon.mutable_model()->mutable_layers(1)->mutable_batch_normalization()->set_epsilon(1.1e-3);
    std::vector<std::string> hashes;
    for (const v1::JobSpec& spec : {job, seed, unshuffled, epsilon, WithBatches(job, 32, 1),
                                    WithBatches(job, 32, 5), WithBatches(job, 31, 4)}) {
      hashes.push_back(Train(spec, data, 2).state_hash);
    }
    SmallData brighter = data;
    brighter.x.bytes[0] = std::byte{1};
    hashes.push_back(Train(job, brighter, 2).state_hash);
    for (size_t i = 0; i < hashes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) EXPECT_NE(hashes[i], hashes[j]) << i << " and " << j;
    }
  }
}

TEST(TrainerTest, ValidationAndLoggingLeaveNoTrace) {
  const SmallData data = MakeImages(100, 1);
  const SmallData validation = MakeImages(45, 2);
  const std::string hash = Train(CnnJob(), data, 2).state_hash;
  EXPECT_EQ(Train(CnnJob(), data, 2, &validation).state_hash, hash);
  v1::JobSpec quiet = CnnJob();
  quiet.mutable_training()->clear_metrics();
  quiet.mutable_training()->set_log_every(1);
  EXPECT_EQ(Train(quiet, data, 2).state_hash, hash);
}

// It trains, after all: classes that can be told apart are.
TEST(TrainerTest, Learns) {
  v1::JobSpec mlp = MlpJob();
  mlp.mutable_training()->set_epochs(20);
  mlp.mutable_training()->mutable_optimizer()->mutable_adam()->set_learning_rate(0.01);
  v1::JobSpec cnn = CnnJob();
  cnn.mutable_training()->set_epochs(15);
  for (const Trained& trained :
       {Train(mlp, MakeVectors(200, 20, 1), 2), Train(cnn, MakeImages(200, 1), 2)}) {
    const v1::EpochRecord& last = LastEpoch(trained);
    ASSERT_EQ(last.metrics(1).name(), "accuracy");
    EXPECT_GT(last.metrics(1).value(), 0.9) << last.DebugString();
  }
}

TEST(TrainerTest, LearnsValues) {
  // y = the sum of x's first two numbers.
  std::mt19937 random(3);
  std::vector<float> x(200 * 4);
  std::vector<float> y(200);
  for (float& v : x) v = static_cast<float>(random() % 1000) / 1000.0f;
  for (size_t n = 0; n < y.size(); ++n) y[n] = x[4 * n] + x[4 * n + 1];
  const SmallData data = {MakeTensor(DType::kFloat32, {200, 4}, x),
                          MakeTensor(DType::kFloat32, {200, 1}, y)};
  const auto job = ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[4]}],"layers":[{"dense":{"units":1}}]},
      "training":{"batchSize":50,"epochs":150,"losses":[{"meanSquaredError":{}}],
                  "optimizer":{"sgd":{"learningRate":0.3}}}})");
  const Trained trained = Train(job, data, 2, &data);
  const v1::EpochRecord& last = LastEpoch(trained);
  ASSERT_EQ(last.metrics_size(), 2);
  EXPECT_EQ(last.metrics(1).name(), "val_loss");
  EXPECT_LT(last.metrics(1).value(), 1e-4);
  ExpectSame(Train(job, data, 3, &data), trained);
}

absl::Status CreateStatus(const v1::JobSpec& spec, const SmallData& train,
                          const SmallData* validation = nullptr) {
  ThreadPool pool(1);
  std::optional<LabelledData> validation_data;
  if (validation != nullptr) validation_data = validation->view();
  return Trainer::Create(PlanOrDie(spec, train, validation), train.view(), validation_data, &pool)
      .status();
}

void ExpectInvalid(const absl::Status& status, const std::string& message) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find(message), std::string::npos)
      << "expected: " << message << "\n     got: " << status.message();
}

TEST(TrainerTest, RefusesLabelsOutsideTheClasses) {
  SmallData data = MakeVectors(100, 20, 1);
  data.y.bytes[17] = std::byte{3};
  ExpectInvalid(CreateStatus(MlpJob(), data),
                "data.train.y: label of sample 17 is 3; the model has classes 0 to 2");
  const SmallData good = MakeVectors(100, 20, 1);
  ExpectInvalid(CreateStatus(MlpJob(), good, &data), "data.validation.y: label of sample 17 is 3");

  data = good;
  data.y.dtype = DType::kInt8;
  data.y.bytes[99] = std::byte{0xff};
  ExpectInvalid(CreateStatus(MlpJob(), data), "label of sample 99 is -1");

  data = good;
  data.y = MakeTensor(DType::kInt64, {100}, std::vector<int64_t>(100, 1));
  const int64_t huge = (int64_t{1} << 32) + 1;  // 1 in its lower half
  std::memcpy(data.y.bytes.data() + 8 * 42, &huge, 8);
  ExpectInvalid(CreateStatus(MlpJob(), data), "label of sample 42 is 4294967297");
}

TEST(TrainerTest, RefusesValuesThatAreNotFinite) {
  SmallData data = MakeVectors(100, 20, 1);
  const auto set = [&](Tensor& tensor, int64_t index, float value) {
    std::memcpy(tensor.bytes.data() + 4 * index, &value, 4);
  };
  set(data.x, 5 * 20 + 2, std::numeric_limits<float>::quiet_NaN());
  ExpectInvalid(CreateStatus(MlpJob(), data), "data.train.x: value 2 of sample 5 is nan");
  set(data.x, 5 * 20 + 2, -std::numeric_limits<float>::infinity());
  ExpectInvalid(CreateStatus(MlpJob(), data), "data.train.x: value 2 of sample 5 is -inf");

  // A double that no float can hold.
  std::vector<double> doubles(100 * 20, 0.5);
  doubles[99 * 20 + 19] = 1e300;
  data.x = MakeTensor(DType::kFloat64, {100, 20}, doubles);
  ExpectInvalid(CreateStatus(MlpJob(), data), "data.train.x: value 19 of sample 99 is 1e+300");

  v1::JobSpec regression = MlpJob();
  regression.mutable_training()->clear_metrics();
  regression.mutable_training()->mutable_losses(0)->mutable_mean_squared_error();
  data = MakeVectors(100, 20, 1);
  data.y = MakeTensor(DType::kFloat32, {100, 3}, std::vector<float>(300));
  set(data.y, 3 * 7 + 1, std::numeric_limits<float>::infinity());
  ExpectInvalid(CreateStatus(regression, data), "data.train.y: value 1 of sample 7 is inf");
}

// Contract rule 13.
TEST(TrainerTest, ALossThatIsNotFiniteEndsWithStepAndLayer) {
  // Inputs of 1 and a step of 3e38: one step later the sums overflow.
  const SmallData data = {MakeTensor(DType::kFloat32, {8, 20}, std::vector<float>(160, 1.0f)),
                          MakeTensor(DType::kUint8, {8}, std::vector<uint8_t>(8, 1))};
  const auto job = ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[20]}],"layers":[
        {"flatten":{}}, {"name":"first","dense":{"units":3}},
        {"activation":{"activation":"linear"}}]},
      "training":{"batchSize":8,"epochs":5,"optimizer":{"sgd":{"learningRate":3e38}},
        "losses":[{"sparseCategoricalCrossentropy":{"fromLogits":true}}]}})");
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    auto trainer = Trainer::Create(PlanOrDie(job, data), data.view(), std::nullopt, &pool);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    ASSERT_TRUE((*trainer)->Step().ok());
    const absl::Status status = (*trainer)->Step();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const std::string before =
        absl::StrCat((*trainer)->TakeEvents().front().step().metrics(0).last());
    EXPECT_EQ(status.message(),
              "the loss is no longer finite at step 2; the first layer with such values is "
              "\"first\" (model.layers[1].dense); the loss before it was " +
                  before + "; a smaller learning_rate may help");
    EXPECT_EQ((*trainer)->step(), 1) << "the step that failed does not count";
  }
}

TEST(TrainerTest, CountsItsSteps) {
  const SmallData data = MakeVectors(100, 20, 1);
  v1::JobSpec job = MlpJob();
  job.mutable_training()->set_max_steps(7);
  ThreadPool pool(1);
  auto trainer = Trainer::Create(PlanOrDie(job, data), data.view(), std::nullopt, &pool);
  ASSERT_TRUE(trainer.ok());
  std::string hash = (*trainer)->StateHash();
  for (int step = 0; step < 7; ++step) {
    EXPECT_EQ((*trainer)->step(), step);
    EXPECT_FALSE((*trainer)->done());
    ASSERT_TRUE((*trainer)->Step().ok());
    EXPECT_NE((*trainer)->StateHash(), hash);
    hash = (*trainer)->StateHash();
    EXPECT_EQ((*trainer)->StateHash(), hash) << "asking changed the state";
  }
  EXPECT_TRUE((*trainer)->done());
}

}  // namespace
}  // namespace lockstep
