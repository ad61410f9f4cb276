// Losses, weights, metrics and validation splits in whole trainings.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/inference/inference_model.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

constexpr int64_t kSamples = 100;

v1::JobSpec Job(const std::string& last, const std::string& training) {
  return ParseJson<v1::JobSpec>(
      R"({"model":{"inputs":[{"shape":[20]}],"layers":[{"dense":{"units":16,"activation":"relu"}},
          {"dense":)" +
      last + R"(}]},"data":{"train":{"dataset":"small"}},
      "training":{"batchSize":24,"epochs":2,"seed":1,"shards":3,"optimizer":{"sgd":{"learningRate":0.5}},)" +
      training + "}}");
}

v1::JobSpec ClassesJob() {
  return Job(R"({"units":3,"activation":"softmax"})",
             R"("losses":[{"sparseCategoricalCrossentropy":{}}],
                "metrics":["accuracy","top_2_accuracy","precision","recall","f1"])");
}
v1::JobSpec OneHotJob() {
  return Job(R"({"units":3,"activation":"softmax"})",
             R"("losses":[{"categoricalCrossentropy":{"labelSmoothing":0.1}}],
                "metrics":["accuracy","top_1_accuracy","f1"])");
}
v1::JobSpec BinaryJob() {
  return Job(R"({"units":1,"activation":"sigmoid"})",
             R"("losses":[{"binaryCrossentropy":{}}],
                "metrics":["accuracy","auc","precision","recall","f1"])");
}
v1::JobSpec ValuesJob() {
  return Job(R"({"units":2})", R"("losses":[{"huber":{"delta":0.5}}],"metrics":["mae","rmse"])");
}

// The vectors of MakeVectors with targets that fit the job, made from their labels.
SmallData DataFor(const v1::JobSpec& job, int64_t samples, uint32_t seed) {
  SmallData data = MakeVectors(samples, 20, seed);
  const v1::Loss& loss = job.training().losses(0);
  if (loss.has_sparse_categorical_crossentropy()) return data;
  const int64_t columns = job.model().layers(1).dense().units();
  std::vector<float> targets(samples * columns);
  for (int64_t n = 0; n < samples; ++n) {
    const auto label = static_cast<int64_t>(data.y.bytes[n]);
    for (int64_t j = 0; j < columns; ++j) {
      const bool one = columns == 1 ? label == 2 : label == j;
      targets[n * columns + j] = one ? 1.0f : 0.0f;
    }
  }
  data.y = MakeTensor(DType::kFloat32, {samples, columns}, targets);
  return data;
}

void AddWeights(v1::DataSource* source, SmallData& data, float factor = 0) {
  source->set_sample_weight("weight");
  std::vector<float> weights(data.y.shape[0]);
  for (size_t n = 0; n < weights.size(); ++n) {
    weights[n] = factor > 0 ? factor : static_cast<float>(n % 5) * 0.4f;
  }
  data.weight = MakeTensor(DType::kFloat32, {std::ssize(weights)}, weights);
}

SmallData Part(const SmallData& data, int64_t begin, int64_t count) {
  const auto part = [&](const Tensor& tensor) {
    Tensor cut = tensor;
    cut.shape[0] = count;
    const auto sample = static_cast<int64_t>(tensor.bytes.size()) / tensor.shape[0];
    cut.bytes.assign(tensor.bytes.begin() + begin * sample,
                     tensor.bytes.begin() + (begin + count) * sample);
    return cut;
  };
  return {part(data.x), part(data.y)};
}

std::map<std::string, double> Epoch(const Trained& trained) {
  std::map<std::string, double> values;
  for (const v1::Metric& metric : LastEpoch(trained).metrics()) {
    values[metric.name()] = metric.value();
  }
  return values;
}

void ExpectSame(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.state_hash, b.state_hash);
  ASSERT_EQ(a.events.size(), b.events.size());
  for (size_t i = 0; i < a.events.size(); ++i) {
    EXPECT_EQ(a.events[i].DebugString(), b.events[i].DebugString());
  }
}

TEST(ObjectivesTest, ThreadsDoNotMatterWithWeightsAndAllMetrics) {
  for (v1::JobSpec job : {ClassesJob(), OneHotJob(), BinaryJob(), ValuesJob()}) {
    SCOPED_TRACE(job.training().losses(0).ShortDebugString());
    SmallData data = DataFor(job, kSamples, 1);
    SmallData validation = DataFor(job, 70, 2);
    AddWeights(job.mutable_data()->mutable_train(), data);
    AddWeights(job.mutable_data()->mutable_validation(), validation);
    v1::Loss& loss = *job.mutable_training()->mutable_losses(0);
    loss.set_weight(0.3f);
    const int64_t columns = job.model().layers(1).dense().units();
    if (!loss.has_huber()) {
      for (int64_t c = 0; c < std::max<int64_t>(2, columns); ++c) {
        loss.add_class_weights(0.7f + 0.9f * static_cast<float>(c));
      }
    }
    const Trained one = Train(job, data, 1, &validation);
    for (int threads : {2, 3, 4}) ExpectSame(Train(job, data, threads, &validation), one);
    const std::map<std::string, double> values = Epoch(one);
    EXPECT_EQ(std::ssize(values), 2 + 2 * job.training().metrics_size());
    for (const std::string& name : job.training().metrics()) {
      EXPECT_TRUE(values.contains(name)) << name;
      EXPECT_TRUE(values.contains("val_" + name)) << name;
    }
  }
}

TEST(ObjectivesTest, Learn) {
  for (v1::JobSpec job : {ClassesJob(), OneHotJob(), BinaryJob(), ValuesJob()}) {
    job.mutable_training()->set_epochs(40);
    const SmallData data = DataFor(job, 200, 1);
    const std::map<std::string, double> values = Epoch(Train(job, data, 2, &data));
    for (const auto& [name, value] : values) {
      if (name.ends_with("loss")) continue;
      const bool error = name.ends_with("mae") || name.ends_with("rmse");
      EXPECT_TRUE(error ? value < 0.3 : value > 0.9) << name << " " << value;
    }
  }
}

// The loss takes the last activation over: the same as logits with from_logits.
TEST(ObjectivesTest, ALastActivationIsTheLosssOwn) {
  v1::JobSpec sigmoid = BinaryJob();
  const SmallData data = DataFor(sigmoid, kSamples, 1);
  v1::JobSpec logits = sigmoid;
  logits.mutable_model()->mutable_layers(1)->mutable_dense()->clear_activation();
  logits.mutable_training()->mutable_losses(0)->mutable_binary_crossentropy()->set_from_logits(
      true);
  v1::JobSpec layer = logits;
  layer.mutable_model()->add_layers()->mutable_activation()->set_activation("sigmoid");
  layer.mutable_training()->mutable_losses(0)->mutable_binary_crossentropy()->set_from_logits(
      false);
  const Trained trained = Train(sigmoid, data, 2, &data);
  ExpectSame(Train(logits, data, 2, &data), trained);
  ExpectSame(Train(layer, data, 2, &data), trained);
}

// Logits may come out of any activation, which is the network's own then.
TEST(ObjectivesTest, AnActivationBeforeLogitsCounts) {
  v1::JobSpec linear = ClassesJob();
  linear.mutable_training()
      ->mutable_losses(0)
      ->mutable_sparse_categorical_crossentropy()
      ->set_from_logits(true);
  linear.mutable_model()->mutable_layers(1)->mutable_dense()->set_activation("linear");
  v1::JobSpec tanh = linear;
  tanh.mutable_model()->mutable_layers(1)->mutable_dense()->set_activation("tanh");
  const SmallData data = DataFor(linear, kSamples, 1);
  EXPECT_NE(Train(linear, data, 2).state_hash, Train(tanh, data, 2).state_hash);
}

// A factor of 2 is exact wherever it stands: in a weight, or in the learning rate.
TEST(ObjectivesTest, WeightsScaleTheGradient) {
  for (v1::JobSpec job : {ClassesJob(), OneHotJob(), BinaryJob()}) {
    const SmallData data = DataFor(job, kSamples, 1);
    v1::JobSpec doubled = job;
    doubled.mutable_training()->mutable_optimizer()->mutable_sgd()->set_learning_rate(1);
    const std::string hash = Train(doubled, data, 2).state_hash;
    EXPECT_NE(Train(job, data, 2).state_hash, hash);

    v1::JobSpec weighted = job;
    weighted.mutable_training()->mutable_losses(0)->set_weight(2);
    EXPECT_EQ(Train(weighted, data, 2).state_hash, hash) << "of the loss";

    v1::JobSpec classes = job;
    for (int c = 0; c < (job.training().losses(0).has_binary_crossentropy() ? 2 : 3); ++c) {
      classes.mutable_training()->mutable_losses(0)->add_class_weights(2);
    }
    EXPECT_EQ(Train(classes, data, 2).state_hash, hash) << "of classes";

    v1::JobSpec samples = job;
    SmallData heavy = data;
    AddWeights(samples.mutable_data()->mutable_train(), heavy, 2);
    EXPECT_EQ(Train(samples, heavy, 2).state_hash, hash) << "of samples";
  }
}

// As Keras: validation has weights of its own samples, and none of classes.
TEST(ObjectivesTest, ValidationKnowsItsSamplesWeightsOnly) {
  v1::JobSpec job = ClassesJob();
  job.mutable_training()->mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-30);
  SmallData data = DataFor(job, kSamples, 1);
  const std::map<std::string, double> plain = Epoch(Train(job, data, 2, &data));
  for (float weight : {0.0f, 1.0f, 5.0f}) {
    job.mutable_training()->mutable_losses(0)->add_class_weights(weight);
  }
  std::map<std::string, double> weighted = Epoch(Train(job, data, 2, &data));
  EXPECT_EQ(weighted["val_loss"], plain.at("val_loss"));
  EXPECT_NE(weighted["loss"], plain.at("loss"));
  EXPECT_EQ(weighted["accuracy"], plain.at("accuracy")) << "metrics have no weights";

  SmallData heavy = data;
  AddWeights(job.mutable_data()->mutable_validation(), heavy, 2);
  weighted = Epoch(Train(job, data, 2, &heavy));
  EXPECT_DOUBLE_EQ(weighted["val_loss"], 2 * plain.at("val_loss"));
  EXPECT_EQ(weighted["val_f1"], plain.at("val_f1"));
}

// Where nothing is learnt, an epoch's metrics are those of its samples: in training, over batches
// in any order, as in validation.
TEST(ObjectivesTest, TrainingMetricsAreExactOverTheEpoch) {
  for (v1::JobSpec job : {ClassesJob(), OneHotJob(), BinaryJob(), ValuesJob()}) {
    job.mutable_training()->mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-30);
    const SmallData data = DataFor(job, kSamples, 1);
    for (const auto& [name, value] : Epoch(Train(job, data, 2, &data))) {
      if (name.starts_with("val_")) continue;
      EXPECT_NEAR(value, Epoch(Train(job, data, 2, &data))["val_" + name], 1e-6) << name;
    }
    // An epoch that is cut short has seen its first samples.
    job.mutable_training()->set_shuffle(false);
    job.mutable_training()->set_epochs(1);
    job.mutable_training()->set_max_steps(2);
    const SmallData seen = Part(data, 0, 48);
    const std::map<std::string, double> cut = Epoch(Train(job, data, 2, &seen));
    for (const std::string& name : job.training().metrics()) {
      EXPECT_NEAR(cut.at(name), cut.at("val_" + name), 1e-6) << name;
    }
  }
}

TEST(ObjectivesTest, ValidationMetricsAreThoseOfServedPredictions) {
  const v1::JobSpec job = ValuesJob();
  const SmallData data = DataFor(job, kSamples, 1);
  const SmallData validation = DataFor(job, 1500, 2);
  const Trained trained = Train(job, data, 2, &validation);
  const auto model = *InferenceModel::Create(job.model(), trained.weights);
  std::vector<float> x(1500 * 20), y(1500 * 2), target(1500 * 2);
  std::memcpy(x.data(), validation.x.bytes.data(), validation.x.bytes.size());
  std::memcpy(target.data(), validation.y.bytes.data(), validation.y.bytes.size());
  InferenceModel::Arena arena;
  model->Predict(1500, x, y, arena);
  double absolute = 0;
  double square = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    absolute += std::abs(y[i] - target[i]);
    square += (y[i] - target[i]) * (y[i] - target[i]);
  }
  std::map<std::string, double> values = Epoch(trained);
  EXPECT_NEAR(values["val_mae"], absolute / 3000, 1e-6);
  EXPECT_NEAR(values["val_rmse"], std::sqrt(square / 3000), 1e-6);
}

// Steps log what is cheap: means, not counts or ranks.
TEST(ObjectivesTest, StepsLogMeans) {
  const auto names = [](const v1::JobSpec& job) {
    std::vector<std::string> list;
    const Trained trained = Train(job, DataFor(job, kSamples, 1), 1);
    for (const v1::MetricSummary& metric : trained.events.front().step().metrics()) {
      list.push_back(metric.name());
    }
    return list;
  };
  EXPECT_EQ(names(ClassesJob()), (std::vector<std::string>{"loss", "accuracy", "top_2_accuracy"}));
  EXPECT_EQ(names(BinaryJob()), (std::vector<std::string>{"loss", "accuracy"}));
  EXPECT_EQ(names(ValuesJob()), (std::vector<std::string>{"loss", "mae", "rmse"}));
}

TEST(ObjectivesTest, ASplitIsItsTwoPartsAsTwoDataSets) {
  v1::JobSpec job = ClassesJob();
  const SmallData data = DataFor(job, kSamples, 1);
  const SmallData validation = Part(data, 70, 30);
  const Trained two = Train(job, Part(data, 0, 70), 2, &validation);
  job.mutable_data()->set_validation_split(0.3);
  for (int threads : {1, 3}) ExpectSame(Train(job, data, threads), two);
}

}  // namespace
}  // namespace lockstep
