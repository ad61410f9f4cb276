// What a job may ask for beside plain steps: the same bits for any number of threads, and what it
// does to records, state and published weights.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/network/network.h"
#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

v1::JobSpec With(v1::JobSpec job, const std::string& training) {
  job.mutable_training()->MergeFrom(ParseJson<v1::TrainingSpec>(training));
  return job;
}

// A job that uses nearly everything, and one that uses the rest.
v1::JobSpec RichMlpJob() {
  v1::JobSpec job = With(MlpJob(), R"({
      "batchSize":30,"shards":3,"epochs":8,
      "optimizer":{"rmsprop":{"learningRate":0.02,"momentum":0.5,"centered":true}},
      "learningRateSchedule":{"reduceOnPlateau":{"patience":1,"minDelta":0.1}},
      "weightDecay":{"rate":0.1,"includeBias":true,"groups":[{"layers":["dense_1"],"rate":0.3}]},
      "gradientClipping":{"globalNorm":0.5},"ema":{"momentum":0.8},
      "earlyStopping":{"patience":2,"minDelta":0.05,"restoreBestWeights":true}})");
  // More than one block of 4096 values.
  job.mutable_model()->mutable_layers(0)->mutable_dense()->set_units(300);
  v1::Dense& dense = *job.mutable_model()->mutable_layers(0)->mutable_dense();
  dense.mutable_kernel_regularizer()->set_l1(1e-4f);
  dense.mutable_kernel_regularizer()->set_l2(1e-3f);
  job.mutable_model()
      ->mutable_layers(1)
      ->mutable_batch_normalization()
      ->mutable_gamma_regularizer()
      ->set_l2(0.01f);
  return job;
}

v1::JobSpec RichCnnJob() {
  v1::JobSpec job = CnnJob();
  job.mutable_training()->clear_optimizer();
  return With(job, R"({
      "batchSize":33,"shards":8,"epochs":3,"optimizer":{"adam":{}},
      "learningRateSchedule":{"oneCycle":{}},"weightDecay":{"rate":0.05},
      "gradientClipping":{"norm":0.3},
      "augmentation":{"shift":2,"horizontalFlip":true,"verticalFlip":true,"cutout":3}})");
}

TEST(TrainingFeaturesTest, ThreadsDoNotMatter) {
  const SmallData validation[] = {MakeVectors(45, 20, 2), MakeImages(45, 2)};
  const SmallData data[] = {MakeVectors(100, 20, 1), MakeImages(100, 1)};
  const v1::JobSpec jobs[] = {RichMlpJob(), RichCnnJob()};
  for (int i = 0; i < 2; ++i) {
    const Trained one = Train(jobs[i], data[i], 1, &validation[i]);
    for (int threads : {2, 3, 4}) {
      SCOPED_TRACE(std::to_string(threads) + " threads, job " + std::to_string(i));
      const Trained other = Train(jobs[i], data[i], threads, &validation[i]);
      EXPECT_EQ(other.state_hash, one.state_hash);
      EXPECT_TRUE(other.weights == one.weights);
      ASSERT_EQ(other.events.size(), one.events.size());
      for (size_t e = 0; e < one.events.size(); ++e) {
        EXPECT_EQ(other.events[e].SerializeAsString(), one.events[e].SerializeAsString());
      }
    }
  }
}

// The contract's rules 15 to 17 in two numbers.
TEST(TrainingFeaturesTest, HashesAreTheContracts) {
  const SmallData validation = MakeVectors(45, 20, 2);
  EXPECT_EQ(Train(RichMlpJob(), MakeVectors(100, 20, 1), 2, &validation).state_hash,
            "a3be4bb29759d1fb9d8fee3a8b2f6b21427b548d6f3efa38d8787abbdde27c73");
  EXPECT_EQ(Train(RichCnnJob(), MakeImages(100, 1), 2).state_hash,
            "859c7b5d9361c0339244703b155110a2fe7ebce5f2639019ad69b652d0f9ae99");
}

// Negative control: each field is heard.
TEST(TrainingFeaturesTest, EveryFieldMatters) {
  const SmallData data = MakeImages(100, 1);
  const char* const changes[] = {
      R"({})",
      R"({"weightDecay":{"rate":0.1}})",
      R"({"weightDecay":{"rate":0.1,"includeBias":true}})",
      R"({"weightDecay":{"rate":0.1,"includeNormalization":true}})",
      R"({"weightDecay":{"rate":0.1,"groups":[{"layers":["dense"],"rate":0.2}]}})",
      R"({"gradientClipping":{"value":0.01}})",
      R"({"gradientClipping":{"norm":0.01}})",
      R"({"gradientClipping":{"globalNorm":0.01}})",
      R"({"ema":{}})",
      R"({"ema":{"momentum":0.5}})",
      R"({"augmentation":{"shift":1}})",
      R"({"augmentation":{"horizontalFlip":true}})",
      R"({"augmentation":{"verticalFlip":true}})",
      R"({"augmentation":{"cutout":1}})",
      R"({"learningRateSchedule":{"step":{"epochs":1}}})",
      R"({"learningRateSchedule":{"multiStep":{"milestones":[1],"gamma":0.2}}})",
      R"({"learningRateSchedule":{"cosine":{}}})",
      R"({"learningRateSchedule":{"cosine":{"warmupSteps":3}}})",
      R"({"learningRateSchedule":{"exponential":{"decaySteps":4,"decayRate":0.5}}})",
      R"({"learningRateSchedule":{"exponential":{"decaySteps":4,"decayRate":0.5,"staircase":true}}})",
      R"({"learningRateSchedule":{"oneCycle":{}}})",
      R"({"learningRateSchedule":{"reduceOnPlateau":{"monitor":"loss","patience":0,"mode":"max"}}})",
  };
  std::set<std::string> hashes;
  for (const char* change : changes) {
    v1::JobSpec job = With(CnnJob(), change);
    job.mutable_training()->set_epochs(3);
    EXPECT_TRUE(hashes.insert(Train(job, data, 2).state_hash).second) << change;
  }
}

// Where every weight of a job's network lies, and the values that a file has of them.
struct Weights {
  std::vector<float> parameters;
  std::vector<float> buffers;
};
Weights Read(v1::JobSpec job, const std::string& file) {
  const Network network = *Network::Build(job.mutable_model());
  Weights weights = {std::vector<float>(network.parameters_size()),
                     std::vector<float>(network.buffers_size())};
  const absl::Status status = ReadWeights(network, file, weights.parameters, weights.buffers);
  EXPECT_TRUE(status.ok()) << status;
  return weights;
}

// "val_loss" of each epoch.
std::vector<double> ValidationLosses(const Trained& trained) {
  std::vector<double> losses;
  for (const v1::Event& event : trained.events) {
    for (const v1::Metric& metric : event.epoch().metrics()) {
      if (metric.name() == "val_loss") losses.push_back(metric.value());
    }
  }
  return losses;
}

// Nothing is better than the first epoch by so much.
TEST(TrainingFeaturesTest, EarlyStoppingEndsTheJobAndRestoresTheBestEpoch) {
  const SmallData data = MakeVectors(100, 20, 1);
  const SmallData validation = MakeVectors(45, 20, 2);
  for (const char* average : {"", R"("ema":{"momentum":0.7},)"}) {
    const v1::JobSpec job =
        With(MlpJob(), std::string("{") + average +
                           R"("epochs":9,"earlyStopping":{"monitor":"val_loss","patience":2,
                              "minDelta":1000,"restoreBestWeights":true}})");
    const Trained trained = Train(job, data, 2, &validation);
    EXPECT_EQ(ValidationLosses(trained).size(), 3u);
    EXPECT_EQ(trained.events.back().text().text(),
              "training stopped after epoch 3: val_loss was best after epoch 1; the weights are "
              "those of epoch 1 (step 5), the best by val_loss");
    EXPECT_EQ(trained.events.back().text().severity(), v1::Text::INFO);
    EXPECT_EQ(trained.events.back().text().step(), 15);

    v1::JobSpec first = job;
    first.mutable_training()->clear_early_stopping();
    first.mutable_training()->set_epochs(1);
    const Weights wanted = Read(first, Train(first, data, 1, &validation).weights);
    const Weights got = Read(job, trained.weights);
    EXPECT_EQ(got.parameters, wanted.parameters);
    EXPECT_EQ(got.buffers, wanted.buffers);

    v1::JobSpec kept = job;
    kept.mutable_training()->mutable_early_stopping()->set_restore_best_weights(false);
    const Trained last = Train(kept, data, 2, &validation);
    EXPECT_EQ(last.events.back().text().text(),
              "training stopped after epoch 3: val_loss was best after epoch 1");
    EXPECT_NE(Read(kept, last.weights).parameters, wanted.parameters);
    EXPECT_NE(last.state_hash, trained.state_hash);
  }
}

TEST(TrainingFeaturesTest, ProgressAfterAnEarlyStop) {
  const SmallData data = MakeVectors(100, 20, 1);
  const v1::JobSpec job = With(MlpJob(), R"({"epochs":9,"earlyStopping":{
      "monitor":"loss","minDelta":1000}})");
  ThreadPool pool(1);
  const JobPlan plan = PlanOrDie(job, data);
  EXPECT_EQ(plan.total_steps, 45);
  EXPECT_EQ(plan.spec.training().early_stopping().mode(), "min");
  auto trainer = Trainer::Create(plan, data.view(), std::nullopt, &pool);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  while (!(*trainer)->done()) ASSERT_TRUE((*trainer)->Step().ok());
  EXPECT_EQ((*trainer)->step(), 10);
}

// training.proto: average = momentum * average + (1 - momentum) * w, from the first step's w on.
TEST(TrainingFeaturesTest, PublishesTheAverageOfTheWeights) {
  const SmallData data = MakeVectors(100, 20, 1);
  const v1::JobSpec plain = MlpJob();
  const v1::JobSpec averaged = With(plain, R"({"ema":{"momentum":0.75}})");
  ThreadPool pool(2);
  auto trainer = Trainer::Create(PlanOrDie(plain, data), data.view(), std::nullopt, &pool);
  auto other = Trainer::Create(PlanOrDie(averaged, data), data.view(), std::nullopt, &pool);
  ASSERT_TRUE(trainer.ok() && other.ok());
  EXPECT_EQ((*trainer)->SerializeWeights(), (*other)->SerializeWeights()) << "before any step";
  std::vector<double> average;
  while (!(*trainer)->done()) {
    ASSERT_TRUE((*trainer)->Step().ok());
    ASSERT_TRUE((*other)->Step().ok());
    const Weights now = Read(plain, (*trainer)->SerializeWeights());
    if (average.empty()) average.assign(now.parameters.begin(), now.parameters.end());
    for (size_t i = 0; i < average.size(); ++i) {
      average[i] = 0.75 * average[i] + 0.25 * now.parameters[i];
    }
    const Weights published = Read(averaged, (*other)->SerializeWeights());
    EXPECT_EQ(published.buffers, now.buffers);
    for (size_t i = 0; i < average.size(); ++i) {
      ASSERT_NEAR(published.parameters[i], average[i], 1e-6) << i;
    }
  }
  const SmallData validation = MakeVectors(45, 20, 2);
  EXPECT_NE(ValidationLosses(Train(plain, data, 2, &validation)),
            ValidationLosses(Train(averaged, data, 2, &validation)));
}

TEST(TrainingFeaturesTest, RecordsCarryTheLearningRate) {
  const SmallData data = MakeVectors(100, 20, 1);
  const v1::JobSpec job = With(MlpJob(), R"({"epochs":3,"logEvery":2,
      "optimizer":{"sgd":{"learningRate":0.5}},
      "learningRateSchedule":{"step":{"epochs":2,"gamma":0.5}}})");
  int epochs = 0;
  for (const v1::Event& event : Train(job, data, 2).events) {
    if (event.has_epoch()) {
      ++epochs;
      EXPECT_EQ(event.epoch().learning_rate(), event.epoch().epoch() <= 2 ? 0.5 : 0.25);
    } else if (event.has_step()) {
      EXPECT_EQ(event.step().learning_rate(), event.step().epoch() <= 2 ? 0.5 : 0.25);
    }
  }
  EXPECT_EQ(epochs, 3);
}

// The penalty is in every loss that is reported.
TEST(TrainingFeaturesTest, LossesCountThePenalty) {
  const SmallData data = MakeVectors(100, 20, 1);
  v1::JobSpec plain = With(MlpJob(), R"({"epochs":1,"maxSteps":1,"batchSize":100})");
  v1::JobSpec regularized = plain;
  constexpr float kL1 = 0.01f, kL2 = 0.1f;
  v1::Regularizer& regularizer = *regularized.mutable_model()
                                      ->mutable_layers(0)
                                      ->mutable_dense()
                                      ->mutable_kernel_regularizer();
  regularizer.set_l1(kL1);
  regularizer.set_l2(kL2);
  const auto penalty = [&](v1::JobSpec job, const std::string& weights) {
    const Network network = *Network::Build(job.mutable_model());
    const NetworkTensor& kernel = network.parameters()[0];
    const std::vector<float> w = Read(job, weights).parameters;
    double sum = 0;
    for (int64_t i = kernel.offset; i < kernel.offset + kernel.size; ++i) {
      sum += double{kL1} * std::abs(double{w[i]}) + double{kL2} * w[i] * w[i];
    }
    return sum;
  };
  ThreadPool pool(1);
  const std::string initial =
      (*Trainer::Create(PlanOrDie(plain, data), data.view(), std::nullopt, &pool))
          ->SerializeWeights();
  const Trained without = Train(plain, data, 2, &data);
  const Trained with = Train(regularized, data, 2, &data);
  const double before = penalty(plain, initial);
  ASSERT_GT(before, 0.1);
  EXPECT_NEAR(with.events[0].step().metrics(0).last(),
              without.events[0].step().metrics(0).last() + before, 1e-9);
  const auto loss = [](const Trained& trained) {
    return trained.events[1].epoch().metrics(0).value();
  };
  EXPECT_NEAR(loss(with), loss(without) + before, 1e-9);
  // With weights as they are after the step; by a regularizer of 0 the step would be the same.
  v1::JobSpec frozen = regularized;
  frozen.mutable_training()->mutable_optimizer()->mutable_sgd()->set_learning_rate(1e-30);
  v1::JobSpec frozen_plain = plain;
  *frozen_plain.mutable_training()->mutable_optimizer() = frozen.training().optimizer();
  EXPECT_NEAR(ValidationLosses(Train(frozen, data, 2, &data))[0],
              ValidationLosses(Train(frozen_plain, data, 2, &data))[0] + before, 1e-9);
}

}  // namespace
}  // namespace lockstep
