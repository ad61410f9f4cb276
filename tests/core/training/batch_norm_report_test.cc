// What is told of BatchNorms after an epoch: true, the same wherever it is computed, and without a
// trace in the job; and the warning, where inference would not be what training was.

#include "core/training/batch_norm_report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

std::vector<v1::BatchNormReport> Reports(const Trained& trained) {
  std::vector<v1::BatchNormReport> reports;
  for (const v1::Event& event : trained.events) {
    if (event.has_batch_norm()) reports.push_back(event.batch_norm());
  }
  return reports;
}

std::vector<v1::Text> Texts(const Trained& trained) {
  std::vector<v1::Text> texts;
  for (const v1::Event& event : trained.events) {
    if (event.has_text()) texts.push_back(event.text());
  }
  return texts;
}

// Normalises what it reads, so that its statistics are the data's.
v1::JobSpec NormJob(const std::string& normalization) {
  return ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[5]}],"layers":[
        {"name":"norm","batchNormalization":{)" +
                                normalization + R"(}},
        {"name":"top","dense":{"units":3,"activation":"softmax"}}]},
      "data":{"train":{"dataset":"small"}},
      "training":{"batchSize":24,"shards":4,"epochs":3,"seed":1,"shuffle":false,
        "optimizer":{"sgd":{"learningRate":0.1}},
        "losses":[{"sparseCategoricalCrossentropy":{}}]}})");
}

float* Values(SmallData& data) { return reinterpret_cast<float*>(data.x.bytes.data()); }

// Vectors of 5, of which the third is always 2.5 and the fifth is far away.
SmallData NormData(int64_t samples) {
  SmallData data = MakeVectors(samples, 5, 4);
  for (int64_t n = 0; n < samples; ++n) {
    Values(data)[n * 5 + 2] = 2.5f;
    Values(data)[n * 5 + 4] += 70.0f;
  }
  return data;
}

using Row = std::vector<long double>;

long double AtRank(Row values, int quarter) {
  std::sort(values.begin(), values.end());
  return values[quarter * (values.size() - 1) / 4];
}

void ExpectSpread(const v1::Spread& spread, const Row& values) {
  const double got[] = {spread.min(), spread.lower(), spread.median(), spread.upper(),
                        spread.max()};
  for (int q = 0; q <= 4; ++q) {
    const auto wanted = static_cast<double>(AtRank(values, q));
    EXPECT_NEAR(got[q], wanted, 1e-6 * (1 + std::abs(wanted))) << q << " quarters";
  }
}

// What a file of weights says of a job's network.
class Weights {
 public:
  Weights(v1::ModelSpec model, const std::string& file)
      : network_(*Network::Build(&model)),
        parameters_(network_.parameters_size()),
        buffers_(network_.buffers_size()) {
    EXPECT_TRUE(ReadWeights(network_, file, parameters_, buffers_).ok());
  }
  Row operator[](const std::string& name) const {
    for (const NetworkTensor& tensor : network_.parameters()) {
      if (tensor.name == name) return Part(parameters_, tensor);
    }
    for (const NetworkTensor& tensor : network_.buffers()) {
      if (tensor.name == name) return Part(buffers_, tensor);
    }
    ADD_FAILURE() << name;
    return {};
  }

 private:
  static Row Part(const std::vector<float>& flat, const NetworkTensor& tensor) {
    return {flat.begin() + tensor.offset, flat.begin() + tensor.offset + tensor.size};
  }
  const Network network_;
  std::vector<float> parameters_, buffers_;
};

// The mean loss of samples [begin, end) with this normalization before the dense layer.
long double LossOf(SmallData& data, int64_t begin, int64_t end, const Weights& weights,
                   const Row& mean, const Row& variance) {
  const Row gamma = weights["norm.gamma"], beta = weights["norm.beta"];
  const Row kernel = weights["top.kernel"], bias = weights["top.bias"];
  long double sum = 0;
  for (int64_t n = begin; n < end; ++n) {
    long double total = 0, own = 0;
    for (int j = 0; j < 3; ++j) {
      long double logit = bias[j];
      for (int c = 0; c < 5; ++c) {
        const long double x = (Values(data)[n * 5 + c] - mean[c]) / std::sqrt(variance[c] + 1e-3L);
        logit += (x * gamma[c] + beta[c]) * kernel[c * 3 + j];
      }
      total += std::exp(logit);
      if (j == static_cast<int>(data.y.bytes[n])) own = logit;
    }
    sum += std::log(total) - own;
  }
  return sum / static_cast<long double>(end - begin);
}

TEST(BatchNormReportTest, ComparesTheLastBatchWithTheMovingStatistics) {
  SmallData data = NormData(64);
  constexpr int64_t kBegin = 48, kEnd = 64;  // the last batch, shards of 4
  const v1::JobSpec job = NormJob(R"("momentum":0.8)");
  for (const int group_shards : {0, 1}) {
    v1::JobSpec grouped = job;
    grouped.mutable_model()->mutable_layers(0)->mutable_batch_normalization()->set_group_shards(
        group_shards);
    const Trained trained = Train(grouped, data, 2);
    const Weights weights(grouped.model(), trained.weights);
    // A group's spread is about its own mean.
    const int64_t group = group_shards == 0 ? kEnd - kBegin : 4;
    Row mean(5), variance(5);
    for (int64_t begin = kBegin; begin < kEnd; begin += group) {
      for (int c = 0; c < 5; ++c) {
        long double sum = 0, squares = 0;
        for (int64_t n = begin; n < begin + group; ++n) sum += Values(data)[n * 5 + c];
        for (int64_t n = begin; n < begin + group; ++n) {
          const long double d = Values(data)[n * 5 + c] - sum / group;
          squares += d * d;
        }
        mean[c] += sum / (kEnd - kBegin);
        variance[c] += squares / (kEnd - kBegin);
      }
    }
    const Row moving_mean = weights["norm.moving_mean"];
    const Row moving_variance = weights["norm.moving_variance"];
    Row drift(5);
    for (int c = 0; c < 5; ++c) {
      drift[c] = std::abs(mean[c] - moving_mean[c]) / std::sqrt(moving_variance[c] + 1e-3L);
    }

    ASSERT_EQ(Reports(trained).size(), 1u) << "three epochs of three steps share one report";
    const v1::BatchNormReport report = Reports(trained)[0];
    SCOPED_TRACE(report.DebugString());
    EXPECT_EQ(report.epoch(), 3);
    EXPECT_EQ(report.step(), 9);
    ASSERT_EQ(report.layers_size(), 1);
    const v1::BatchNormLayer& layer = report.layers(0);
    EXPECT_EQ(layer.layer(), "norm");
    EXPECT_EQ(layer.channels(), 5);
    EXPECT_EQ(layer.dead_channels(), 1);
    const auto most = std::max_element(drift.begin(), drift.end());
    EXPECT_EQ(layer.max_drift_channel(), most - drift.begin());
    EXPECT_NEAR(layer.max_drift(), static_cast<double>(*most), 1e-5 * layer.max_drift());
    const long double all = drift[0] + drift[1] + drift[2] + drift[3] + drift[4];
    EXPECT_NEAR(layer.mean_drift(), static_cast<double>(all / 5), 1e-5 * layer.mean_drift());
    ExpectSpread(layer.batch_mean(), mean);
    ExpectSpread(layer.batch_variance(), variance);
    ExpectSpread(layer.moving_mean(), moving_mean);
    ExpectSpread(layer.moving_variance(), moving_variance);

    const auto inference =
        static_cast<double>(LossOf(data, kBegin, kEnd, weights, moving_mean, moving_variance));
    EXPECT_NEAR(report.inference_loss(), inference, 1e-5 * inference);
    if (group_shards > 0) continue;
    const auto training = static_cast<double>(LossOf(data, kBegin, kEnd, weights, mean, variance));
    EXPECT_NEAR(report.training_loss(), training, 1e-5 * training);
    EXPECT_GT(std::abs(inference - training), 1e-3) << "the test could not tell them apart";
  }
}

// The same 50 steps as two epochs, with a report between them, and as one.
TEST(BatchNormReportTest, LeavesNoTraceInTheStepsAfterIt) {
  SmallData data = MakeImages(100, 1);
  v1::JobSpec job = CnnJob();
  job.mutable_training()->set_batch_size(4);
  job.mutable_training()->set_shuffle(false);
  const Trained two = Train(job, data, 2);
  SmallData twice = data;
  for (Tensor* tensor : {&twice.x, &twice.y}) {
    tensor->shape[0] *= 2;
    const std::vector<std::byte> once = tensor->bytes;
    tensor->bytes.insert(tensor->bytes.end(), once.begin(), once.end());
  }
  job.mutable_training()->set_epochs(1);
  const Trained one = Train(job, twice, 2);
  EXPECT_EQ(Reports(two).size(), 2u);
  EXPECT_EQ(Reports(one).size(), 1u);
  EXPECT_EQ(one.state_hash, two.state_hash);
  EXPECT_EQ(Reports(one)[0].layers(1).SerializeAsString(),
            Reports(two)[1].layers(1).SerializeAsString());
  EXPECT_EQ(Reports(one)[0].training_loss(), Reports(two)[1].training_loss());
}

// Where the weights stand still, the report's training loss is the loss of the step before:
// dropout, augmentation, penalties and the weights of samples and outputs included.
TEST(BatchNormReportTest, MeasuresTheBatchAsTheStepDid) {
  v1::JobSpec job = ResidualJob();
  job.mutable_model()->mutable_layers(0)->mutable_conv2d()->mutable_kernel_regularizer()->set_l2(
      0.1f);
  v1::TrainingSpec& training = *job.mutable_training();
  training.mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-30);
  training.mutable_augmentation()->set_shift(2);
  training.mutable_augmentation()->set_horizontal_flip(true);
  job.mutable_data()->mutable_train()->set_sample_weight("weight");
  SmallData data = MakeImages(100, 1);
  std::vector<float> weight(100);
  for (int n = 0; n < 100; ++n) weight[n] = static_cast<float>(n % 7) * 0.3f;
  data.weight = MakeTensor(DType::kFloat32, {100}, weight);
  const Trained trained = Train(job, data, 2);
  double loss = 0;
  for (const v1::Event& event : trained.events) {
    if (event.has_step()) loss = event.step().metrics(0).last();
  }
  ASSERT_EQ(Reports(trained).size(), 1u);
  const v1::BatchNormReport report = Reports(trained)[0];
  EXPECT_DOUBLE_EQ(report.training_loss(), loss);
  EXPECT_NE(report.inference_loss(), report.training_loss());
  std::vector<std::string> layers;
  for (const v1::BatchNormLayer& layer : report.layers()) layers.push_back(layer.layer());
  EXPECT_EQ(layers,
            (std::vector<std::string>{"norm", "batch_normalization", "batch_normalization_1"}));
}

TEST(BatchNormReportTest, MeasuresAllInputsAndOutputs) {
  const SmallData data = MakeVectors(100, 20, 1);
  const auto job = ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"name":"a","shape":[20]},{"name":"b","shape":[20]}],"layers":[
        {"name":"right","inputs":["b"],"dense":{"units":8}}, {"name":"second","batchNormalization":{}},
        {"name":"first","inputs":["a"],"batchNormalization":{}},
        {"name":"both","inputs":["first","second"],"concatenate":{}},
        {"name":"p","inputs":["both"],"dense":{"units":3,"activation":"softmax"}},
        {"name":"q","inputs":["both"],"dense":{"units":3}}],"outputs":["p","q"]},
      "data":{"train":{"dataset":"small","x":["x","x"],"y":["y","y"]}},
      "training":{"batchSize":24,"epochs":1,"optimizer":{"sgd":{"learningRate":1e-30}},
        "losses":[{"sparseCategoricalCrossentropy":{}},
                  {"sparseCategoricalCrossentropy":{"fromLogits":true},"weight":0.3}]}})");
  ThreadPool pool(2);
  auto trainer = Trainer::Create(PlanOrDie(job, data), {{data.x, data.x}, {data.y, data.y}},
                                 std::nullopt, &pool);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  while (!(*trainer)->done()) ASSERT_TRUE((*trainer)->Step().ok());
  Trained trained;
  trained.events = (*trainer)->TakeEvents();
  ASSERT_TRUE(trained.events[0].has_step());
  ASSERT_EQ(Reports(trained).size(), 1u);
  const v1::BatchNormReport report = Reports(trained)[0];
  EXPECT_DOUBLE_EQ(report.training_loss(), trained.events[0].step().metrics(0).last());
  EXPECT_NE(report.inference_loss(), report.training_loss());
  ASSERT_EQ(report.layers_size(), 2);
  EXPECT_EQ(report.layers(0).layer(), "second") << "the network's order";
  EXPECT_EQ(report.layers(1).layer(), "first");
}

TEST(BatchNormReportTest, ComesAfterTheEpochsRecordAndBeforeTexts) {
  const SmallData data = NormData(100);
  v1::JobSpec job = NormJob(R"("momentum":0.999999)");
  job.mutable_training()->set_batch_size(5);
  job.mutable_training()->set_log_every(1000);
  const Trained trained = Train(job, data, 1);
  std::vector<std::string> kinds;
  for (const v1::Event& event : trained.events) {
    kinds.push_back(event.has_step()         ? "step"
                    : event.has_epoch()      ? "epoch"
                    : event.has_weights()    ? "weights"
                    : event.has_batch_norm() ? "batch_norm"
                                             : "text");
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"step", "epoch", "weights", "batch_norm",          //
                                             "step", "epoch", "weights", "batch_norm", "text",  //
                                             "step", "epoch", "weights", "batch_norm", "text"}));
}

TEST(BatchNormReportTest, WarnsWhenMovingStatisticsDoNotFollowAndOnlyThen) {
  SmallData data = MakeVectors(200, 5, 4);
  for (int64_t i = 0; i < 1000; ++i) Values(data)[i] += 30.0f;
  v1::JobSpec stiff = NormJob(R"("momentum":0.999999)");
  stiff.mutable_training()->set_batch_size(8);
  v1::JobSpec healthy = NormJob(R"("momentum":0.8)");
  healthy.mutable_training()->set_batch_size(8);
  EXPECT_TRUE(Texts(Train(healthy, data, 1)).empty());
  const std::vector<v1::Text> texts = Texts(Train(stiff, data, 1));
  ASSERT_EQ(texts.size(), 2u) << "after the second epoch and the last, not after the first";
  EXPECT_EQ(texts[0].step(), 50);
  EXPECT_EQ(texts[1].step(), 75);
  EXPECT_EQ(texts[0].severity(), v1::Text::WARNING);
  EXPECT_NE(texts[0].text().find("inference would not agree with training"), std::string::npos);
  EXPECT_NE(texts[0].text().find("\"norm\" are "), std::string::npos) << texts[0].text();
}

TEST(BatchNormReportTest, NamesTheLayerThatHasDriftedMost) {
  const auto report = ParseJson<v1::BatchNormReport>(R"({"trainingLoss":0.5,"inferenceLoss":9,
      "layers":[{"layer":"a","meanDrift":1,"maxDrift":50},{"layer":"b","meanDrift":14}]})");
  EXPECT_NE(DescribeDisagreement(report).find("\"b\" are 14 standard deviations"),
            std::string::npos);
  v1::BatchNormReport fine = report;
  fine.set_inference_loss(1.1);
  EXPECT_EQ(DescribeDisagreement(fine), "");
  fine.set_inference_loss(std::nan(""));
  EXPECT_NE(DescribeDisagreement(fine), "");
}

TEST(BatchNormReportTest, IsNotMadeOfLayersThatDoNotLearn) {
  const SmallData data = NormData(100);
  v1::JobSpec job = NormJob("");
  job.mutable_model()->mutable_layers(0)->set_trainable(false);
  EXPECT_TRUE(Reports(Train(job, data, 1)).empty());
}

TEST(BatchNormReportTest, ShortEpochsShareOneAndTheLastAlwaysHasOne) {
  const auto reports = [](int64_t steps_per_epoch, bool warnings) {
    const BatchNormSchedule schedule(steps_per_epoch);
    std::vector<int64_t> epochs;
    for (int64_t epoch = 1; epoch <= 30; ++epoch) {
      const bool last = epoch == 30;
      if (!schedule.Reports(epoch, last)) continue;
      if (!warnings || schedule.Warns(epoch, last)) epochs.push_back(epoch);
    }
    return epochs;
  };
  using List = std::vector<int64_t>;
  EXPECT_EQ(reports(1, false), (List{20, 30}));
  EXPECT_EQ(reports(3, false), (List{7, 14, 21, 28, 30}));
  EXPECT_EQ(reports(19, false).size(), 15u);
  EXPECT_EQ(reports(20, false).size(), 30u);
  EXPECT_EQ(reports(1000, false).size(), 30u);
  EXPECT_EQ(reports(1, true), (List{30}));
  EXPECT_EQ(reports(3, true), (List{14, 28, 30}));
  EXPECT_EQ(reports(1000, true), (List{2, 4, 8, 16, 30}));
}

}  // namespace
}  // namespace lockstep
