// What a training logs, and that served predictions are what its validation saw.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/inference/inference_model.h"
#include "core/network/network.h"
#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

std::vector<v1::StepRecord> Steps(const Trained& trained) {
  std::vector<v1::StepRecord> records;
  for (const v1::Event& event : trained.events) {
    if (event.has_step()) records.push_back(event.step());
  }
  return records;
}

std::vector<v1::EpochRecord> Epochs(const Trained& trained) {
  std::vector<v1::EpochRecord> records;
  for (const v1::Event& event : trained.events) {
    if (event.has_epoch()) records.push_back(event.epoch());
  }
  return records;
}

v1::JobSpec Logged(int64_t log_every) {
  v1::JobSpec job = MlpJob();
  job.mutable_training()->set_log_every(log_every);
  return job;
}

TEST(RecordsTest, AreWrittenEveryLogEveryStepsAndAtAnEpochsEnd) {
  const SmallData data = MakeVectors(100, 20, 1);  // five steps an epoch
  const auto numbers = [](const Trained& trained) {
    std::vector<std::vector<int64_t>> list;
    for (const v1::StepRecord& r : Steps(trained)) {
      list.push_back({r.step(), r.epoch(), r.step_in_epoch()});
    }
    return list;
  };
  using List = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(numbers(Train(Logged(3), data, 2)),
            (List{{3, 1, 3}, {5, 1, 5}, {6, 2, 1}, {9, 2, 4}, {10, 2, 5}}));
  EXPECT_EQ(numbers(Train(Logged(50), data, 2)), (List{{5, 1, 5}, {10, 2, 5}}));
  v1::JobSpec stopped = Logged(3);
  stopped.mutable_training()->set_max_steps(7);
  const Trained trained = Train(stopped, data, 2);
  EXPECT_EQ(numbers(trained), (List{{3, 1, 3}, {5, 1, 5}, {6, 2, 1}, {7, 2, 2}}));
  ASSERT_EQ(Epochs(trained).size(), 2u);
  EXPECT_EQ(Epochs(trained)[1].step(), 7);
  EXPECT_TRUE(trained.events[trained.events.size() - 3].has_epoch());
  EXPECT_TRUE(trained.events[trained.events.size() - 2].has_weights());
  EXPECT_TRUE(trained.events.back().has_batch_norm());
}

// A record sums up what the steps since the one before it would have logged one by one.
TEST(RecordsTest, SumUpTheirSteps) {
  const SmallData data = MakeVectors(100, 20, 1);
  const std::vector<v1::StepRecord> single = Steps(Train(Logged(1), data, 2));
  const Trained trained = Train(Logged(3), data, 2);
  ASSERT_EQ(single.size(), 10u);
  int64_t first = 0;
  for (const v1::StepRecord& record : Steps(trained)) {
    ASSERT_EQ(record.metrics_size(), 2);
    EXPECT_EQ(record.metrics(0).name(), "loss");
    EXPECT_EQ(record.metrics(1).name(), "accuracy");
    EXPECT_EQ(record.learning_rate(), 0.001);
    for (int m = 0; m < 2; ++m) {
      const v1::MetricSummary& metric = record.metrics(m);
      std::vector<double> values;
      for (int64_t s = first; s < record.step(); ++s) {
        EXPECT_EQ(single[s].metrics(m).min(), single[s].metrics(m).last());
        values.push_back(single[s].metrics(m).last());
      }
      double sum = 0;
      for (double v : values) sum += v;
      EXPECT_EQ(metric.min(), *std::min_element(values.begin(), values.end()));
      EXPECT_EQ(metric.max(), *std::max_element(values.begin(), values.end()));
      EXPECT_EQ(metric.last(), values.back());
      EXPECT_DOUBLE_EQ(metric.mean(), sum / static_cast<double>(values.size()));
      EXPECT_LE(metric.min(), metric.mean());
      EXPECT_LE(metric.mean(), metric.max());
    }
    first = record.step();
  }
  // The epoch's value is the mean over its samples: the last batch has 4 of 100.
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (int m = 0; m < 2; ++m) {
      double mean = 0;
      for (int s = 0; s < 5; ++s) {
        mean += single[5 * epoch + s].metrics(m).last() * (s < 4 ? 24 : 4) / 100.0;
      }
      EXPECT_NEAR(Epochs(trained)[epoch].metrics(m).value(), mean, 1e-12);
    }
  }
}

TEST(RecordsTest, EpochsTellValidationAndState) {
  const SmallData data = MakeVectors(100, 20, 1);
  const SmallData validation = MakeVectors(45, 20, 2);
  const Trained trained = Train(MlpJob(), data, 2, &validation);
  const std::vector<v1::EpochRecord> epochs = Epochs(trained);
  ASSERT_EQ(epochs.size(), 2u);
  for (int e = 0; e < 2; ++e) {
    EXPECT_EQ(epochs[e].epoch(), e + 1);
    EXPECT_EQ(epochs[e].step(), 5 * (e + 1));
    std::vector<std::string> names;
    for (const v1::Metric& metric : epochs[e].metrics()) names.push_back(metric.name());
    EXPECT_EQ(names, (std::vector<std::string>{"loss", "accuracy", "val_loss", "val_accuracy"}));
    EXPECT_EQ(epochs[e].state_hash().size(), 64u);
  }
  EXPECT_NE(epochs[0].state_hash(), epochs[1].state_hash());
  EXPECT_EQ(epochs[1].state_hash(), trained.state_hash);

  // The first epoch's hash is what a job that stops there ends with.
  v1::JobSpec shorter = MlpJob();
  shorter.mutable_training()->set_epochs(1);
  EXPECT_EQ(Train(shorter, data, 1).state_hash, epochs[0].state_hash());
}

TEST(RecordsTest, TimingIsSplitIntoPartsThatAddUp) {
  const SmallData data = MakeVectors(100, 20, 1);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    auto trainer = Trainer::Create(PlanOrDie(Logged(1), data), data.view(), std::nullopt, &pool);
    ASSERT_TRUE(trainer.ok());
    while (!(*trainer)->done()) ASSERT_TRUE((*trainer)->Step().ok());
    int timed = 0;
    for (const v1::Event& event : (*trainer)->TakeEvents()) {
      if (!event.has_step() && !event.has_epoch()) continue;
      ++timed;
      const v1::Timing& timing = event.has_step() ? event.step().timing() : event.epoch().timing();
      SCOPED_TRACE(timing.DebugString());
      EXPECT_GT(timing.samples_per_second(), 0);
      EXPECT_GT(timing.compute_ms(), 0);
      EXPECT_GT(timing.reduce_ms(), 0);
      EXPECT_GE(timing.wait_ms(), 0);
      EXPECT_TRUE(threads > 1 || timing.wait_ms() == 0) << "one thread always has work";
      EXPECT_NEAR(timing.compute_ms() + timing.wait_ms() + timing.reduce_ms(), timing.step_ms(),
                  1e-9);
    }
    EXPECT_EQ(timed, 12);
    EXPECT_TRUE((*trainer)->TakeEvents().empty()) << "events were given out twice";
  }
}

// Plain SGD moves the weights by its rate times the gradient.
TEST(RecordsTest, GradientNormIsThatOfTheLastStepWithPenaltiesBeforeClipping) {
  const SmallData data = MakeVectors(96, 20, 1);
  v1::JobSpec job = Logged(2);
  job.mutable_training()->mutable_optimizer()->mutable_sgd()->set_learning_rate(0.5);
  job.mutable_training()->set_epochs(1);
  v1::Dense& dense = *job.mutable_model()->mutable_layers(0)->mutable_dense();
  dense.mutable_kernel_regularizer()->set_l2(0.1f);
  ThreadPool pool(2);
  auto trainer = Trainer::Create(PlanOrDie(job, data), data.view(), std::nullopt, &pool);
  ASSERT_TRUE(trainer.ok());
  const auto parameters = [&] {
    v1::ModelSpec model = job.model();
    const Network network = *Network::Build(&model);
    std::vector<float> flat(network.parameters_size());
    std::vector<float> buffers(network.buffers_size());
    EXPECT_TRUE(ReadWeights(network, (*trainer)->SerializeWeights(), flat, buffers).ok());
    return flat;
  };
  std::vector<double> norms;  // of each step
  while (!(*trainer)->done()) {
    const std::vector<float> before = parameters();
    ASSERT_TRUE((*trainer)->Step().ok());
    const std::vector<float> after = parameters();
    long double squares = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      const long double g = (static_cast<long double>(before[i]) - after[i]) / 0.5L;
      squares += g * g;
    }
    norms.push_back(static_cast<double>(std::sqrt(squares)));
  }
  ASSERT_EQ(norms.size(), 4u);
  Trained trained;
  trained.events = (*trainer)->TakeEvents();
  const std::vector<v1::StepRecord> steps = Steps(trained);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_NEAR(steps[0].gradient_norm(), norms[1], 1e-5 * norms[1]);
  EXPECT_NEAR(steps[1].gradient_norm(), norms[3], 1e-5 * norms[3]);

  // Clipping changes what follows, not what is told of the first step.
  job.mutable_training()->set_log_every(1);
  const double free = Steps(Train(job, data, 1))[0].gradient_norm();
  job.mutable_training()->mutable_gradient_clipping()->set_global_norm(free / 10);
  const std::vector<v1::StepRecord> clipped = Steps(Train(job, data, 3));
  EXPECT_EQ(clipped[0].gradient_norm(), free);
  EXPECT_NEAR(free, norms[0], 1e-5 * norms[0]);
}

std::vector<float> InputsOf(const SmallData& data) {
  std::vector<float> x;
  if (data.x.dtype == DType::kUint8) {
    for (std::byte b : data.x.bytes) x.push_back(static_cast<float>(b));
  } else {
    x.resize(data.x.bytes.size() / 4);
    std::memcpy(x.data(), data.x.bytes.data(), data.x.bytes.size());
  }
  return x;
}

class ServedPredictionsTest : public testing::TestWithParam<bool> {
 protected:
  ServedPredictionsTest()
      : job_(GetParam() ? CnnJob() : MlpJob()),
        validation_(GetParam() ? MakeImages(kSamples, 2) : MakeVectors(kSamples, 20, 2)) {
    trained_ =
        Train(job_, GetParam() ? MakeImages(100, 1) : MakeVectors(100, 20, 1), 2, &validation_);
    model_ = *InferenceModel::Create(job_.model(), trained_.weights);
    x_ = InputsOf(validation_);
  }

  // Rows [begin, begin + count), in one request.
  std::vector<float> Predict(int64_t begin, int64_t count) {
    const size_t width = x_.size() / kSamples;
    std::vector<float> y(count * kClasses);
    model_->Predict(count, std::span(x_).subspan(begin * width, count * width), y, arena_);
    return y;
  }

  static constexpr int64_t kSamples = 131;
  static constexpr int64_t kClasses = 3;
  const v1::JobSpec job_;
  const SmallData validation_;
  Trained trained_;
  std::unique_ptr<const InferenceModel> model_;
  std::vector<float> x_;
  InferenceModel::Arena arena_;
};
INSTANTIATE_TEST_SUITE_P(MlpAndCnn, ServedPredictionsTest, testing::Bool());

TEST_P(ServedPredictionsTest, AreWhatValidationSaw) {
  const std::vector<float> y = Predict(0, kSamples);
  double loss = 0;
  int correct = 0;
  for (int64_t n = 0; n < kSamples; ++n) {
    const float* row = y.data() + n * kClasses;
    const auto label = static_cast<int64_t>(validation_.y.bytes[n]);
    correct += std::max_element(row, row + kClasses) - row == label;
    if (GetParam()) {  // logits
      double sum = 0;
      for (int j = 0; j < kClasses; ++j) sum += std::exp(static_cast<double>(row[j]));
      loss += std::log(sum) - row[label];
    } else {
      loss -= std::log(static_cast<double>(row[label]));
    }
  }
  const v1::EpochRecord last = Epochs(trained_).back();
  ASSERT_EQ(last.metrics(3).name(), "val_accuracy");
  EXPECT_EQ(last.metrics(3).value(), static_cast<double>(correct) / kSamples);
  EXPECT_NEAR(last.metrics(2).value(), loss / kSamples, 1e-5);
}

// Contract rule 11: an answer's bits do not depend on batch mates.
TEST_P(ServedPredictionsTest, DoNotDependOnTheRowsBeside) {
  const std::vector<float> all = Predict(0, kSamples);
  for (int64_t count : {1, 7, 32, 33}) {
    for (int64_t begin = 0; begin < kSamples; begin += count) {
      const int64_t rows = std::min(count, kSamples - begin);
      const std::vector<float> some = Predict(begin, rows);
      ASSERT_EQ(std::memcmp(some.data(), all.data() + begin * kClasses, some.size() * 4), 0)
          << count << " rows from " << begin;
    }
  }
}

}  // namespace
}  // namespace lockstep
