// What PlanJob refuses before anything is stored or allocated, what it fills in, and which jobs
// have the same result.

#include "core/training/job_plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "core/keras/keras_model.h"
#include "tests/core/training/plan_request.h"

namespace lockstep {
namespace {

v1::TrainingSpec& Training(Request& r) { return *r.spec.mutable_training(); }
v1::Layer* Layer(Request& r, int i) { return r.spec.mutable_model()->mutable_layers(i); }

TEST(PlanJobTest, AcceptsWhatTheRefusalsChange) {
  const auto plan = Request().Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->steps_per_epoch, 5);
  EXPECT_EQ(plan->total_steps, 10);
  EXPECT_GT(plan->memory_bytes, 0);
  EXPECT_EQ(plan->fingerprint.size(), 64u);
}

// A Keras model is the same job as the model that it describes.
TEST(PlanJobTest, TakesAKerasModelInstead) {
  Request request;
  const absl::StatusOr<JobPlan> ours = request.Plan();
  ASSERT_TRUE(ours.ok()) << ours.status();
  const absl::StatusOr<std::string> json = ModelToKeras(ours->spec.model());
  ASSERT_TRUE(json.ok()) << json.status();
  request.spec.set_keras_model(*json);
  EXPECT_EQ(request.Plan().status().message(),
            "keras_model: stands instead of model; both are given");
  request.spec.clear_model();
  const absl::StatusOr<JobPlan> theirs = request.Plan();
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_EQ(theirs->spec.DebugString(), ours->spec.DebugString());
  EXPECT_EQ(theirs->fingerprint, ours->fingerprint);
}

TEST(PlanJobTest, RefusesAKerasModelByItsMember) {
  const auto keras = [](const std::string& json) {
    return [json](Request& r) {
      r.spec.clear_model();
      r.spec.set_keras_model(json);
    };
  };
  ExpectRefused({
      {keras("{"), "keras_model: expected a string at byte 1 of the JSON text"},
      {keras("3"), "keras_model: must be an object, got 3"},
      {keras(R"({"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}})"),
       "keras_model.config.layers[0].config: is required"},
      {keras(std::string(4 << 20, ' ')), "keras_model: the JSON has 4194304 bytes"},
  });
}

TEST(PlanJobTest, RefusesModelsWithoutWeights) {
  ExpectRefused({{[](Request& r) {
                    r.spec.mutable_model()->clear_layers();
                    r.spec.mutable_model()->add_layers()->mutable_dropout()->set_rate(0.5);
                  },
                  "model.layers: no layer has weights that could be trained"}});
}

TEST(PlanJobTest, RefusesNumbersOutOfRange) {
  ExpectRefused({
      {[](Request& r) { Training(r).set_batch_size(101); },
       "training.batch_size: 101 is more than the 100 samples of data set \"small\""},
      {[](Request& r) { Training(r).set_batch_size(0); },
       "training.batch_size: must be within [1, 100], got 0"},
      {[](Request& r) { Training(r).set_batch_size(-4); },
       "training.batch_size: must be within [1, 100], got -4"},
      {[](Request& r) { Training(r).set_epochs(0); }, "training.epochs: must be within [1, "},
      {[](Request& r) { Training(r).set_epochs(-1); }, "got -1"},
      {[](Request& r) { Training(r).set_epochs(std::numeric_limits<int64_t>::max()); },
       "training.epochs: must be within"},
      {[](Request& r) { Training(r).set_epochs(int64_t{1} << 30); },
       "training.epochs: 1073741824 epochs of 5 steps are more than"},
      {[](Request& r) { Training(r).set_max_steps(-1); },
       "training.max_steps: must be within [0, "},
      {[](Request& r) { Training(r).set_shards(257); },
       "training.shards: must be within [0, 256], got 257"},
      {[](Request& r) { Training(r).set_shards(-1); }, "training.shards: must be within [0, 256]"},
      {[](Request& r) { Training(r).set_log_every(-1); },
       "training.log_every: must be within [0, "},
      {[](Request& r) { r.spec.mutable_resources()->set_threads(-1); },
       "resources.threads: must be within [0, 1024], got -1"},
      {[](Request& r) { r.spec.mutable_resources()->set_threads(1025); }, "got 1025"},
  });
}

TEST(PlanJobTest, RefusesOptimizersThatCannotStep) {
  const auto adam = [](Request& r) { return Training(r).mutable_optimizer()->mutable_adam(); };
  const auto sgd = [](Request& r) { return Training(r).mutable_optimizer()->mutable_sgd(); };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  ExpectRefused({
      {[&](Request& r) { adam(r)->set_learning_rate(0); },
       "training.optimizer.adam.learning_rate: must be > 0 and finite, got 0"},
      {[&](Request& r) { adam(r)->set_learning_rate(kNan); }, "must be > 0 and finite, got nan"},
      {[&](Request& r) { adam(r)->set_beta_1(1); },
       "training.optimizer.adam.beta_1: must be within [0, 1), got 1"},
      {[&](Request& r) { adam(r)->set_beta_2(-0.5); },
       "training.optimizer.adam.beta_2: must be within [0, 1), got -0.5"},
      {[&](Request& r) { adam(r)->set_epsilon(0); },
       "training.optimizer.adam.epsilon: must be > 0 and finite, got 0"},
      {[&](Request& r) { sgd(r)->set_learning_rate(-0.1); },
       "training.optimizer.sgd.learning_rate: must be > 0 and finite, got -0.1"},
      {[&](Request& r) { sgd(r)->set_learning_rate(kInfinity); }, "and finite, got inf"},
      {[&](Request& r) { sgd(r)->set_momentum(1.5); },
       "training.optimizer.sgd.momentum: must be within [0, 1], got 1.5"},
      {[&](Request& r) { sgd(r)->set_momentum(kNan); }, "must be within [0, 1], got nan"},
  });
}

TEST(PlanJobTest, TakesDataWhoseShapeDiffersInOnesOnly) {
  Request request;
  request.spec = CnnJob();
  for (const auto& shape : {std::vector<int64_t>{100, 8, 8}, {100, 8, 8, 1}, {100, 1, 8, 8}}) {
    request.train = MakeImages(100, 1).Describe("small");
    request.train.mutable_tensors(0)->mutable_shape()->Assign(shape.begin(), shape.end());
    request.validation = request.train;
    EXPECT_TRUE(request.Plan().ok()) << request.Plan().status();
  }
  // A flat input takes images of its size.
  Request flat;
  flat.spec.mutable_model()->mutable_inputs(0)->set_shape(0, 64);
  flat.train = flat.validation = MakeImages(100, 1).Describe("small");
  EXPECT_TRUE(flat.Plan().ok()) << flat.Plan().status();
}

TEST(PlanJobTest, RefusesWhatNeedsMoreMemoryThanAllowed) {
  Request small;
  small.memory = small.Plan()->memory_bytes;
  EXPECT_TRUE(small.Plan().ok()) << "the limit itself is allowed";

  const auto hidden = [](Request& r, int64_t units) {
    Layer(r, 0)->mutable_dense()->set_units(units);
  };
  ExpectRefused(
      {
          {[](Request& r) { r.memory = r.Plan()->memory_bytes - 1; }, "training needs about "},
          {[&](Request& r) {
             hidden(r, 100000);
             r.memory = 1000000;
           },
           " MB, more than the 1 MB allowed here; a smaller training.batch_size or model needs "
           "less"},
          {[&](Request& r) { hidden(r, 10000000); }, " MB, more than the 1073 MB allowed here"},
          // 2^31 - 1 samples of 2^27 values in eleven layers: their bytes do not fit 64 bits.
          {[](Request& r) {
             constexpr int64_t kSamples = std::numeric_limits<int32_t>::max();
             r.spec.mutable_model()->mutable_inputs(0)->set_shape(0, 2);
             r.spec.mutable_model()->mutable_layers()->DeleteSubrange(1, 2);
             Layer(r, 0)->mutable_dense()->set_units(int64_t{1} << 27);
             Layer(r, 0)->mutable_dense()->set_use_bias(false);
             for (int i = 0; i < 10; ++i) {
               r.spec.mutable_model()->add_layers()->mutable_activation()->set_activation("relu");
             }
             Layer(r, 10)->mutable_activation()->set_activation("softmax");
             for (v1::Dataset* dataset : {&r.train, &r.validation}) {
               dataset->mutable_tensors(0)->set_shape(0, kSamples);
               dataset->mutable_tensors(0)->set_shape(1, 2);
               dataset->mutable_tensors(1)->set_shape(0, kSamples);
             }
             Training(r).set_batch_size(kSamples);
             Training(r).set_epochs(1);
           },
           "training needs about 9000000000000 MB, more than the 1073 MB allowed here"},
      },
      absl::StatusCode::kResourceExhausted);
}

// Validation takes memory too: a small batch must not hide it.
TEST(PlanJobTest, CountsTheMemoryOfValidation) {
  Request request;
  Training(request).set_batch_size(1);
  request.spec.mutable_model()->mutable_layers(0)->mutable_dense()->set_units(100000);
  const auto with = request.Plan();
  const auto without = PlanJob(request.spec, request.train, nullptr, kMemory);
  ASSERT_TRUE(with.ok() && without.ok());
  // At least one thread's activations of the widest layer, 32 samples at a time.
  EXPECT_GE(with->memory_bytes - without->memory_bytes, 32 * 100000 * 4);
}

TEST(PlanJobTest, FillsInDefaults) {
  const JobPlan plan = *Request().Plan();
  const v1::TrainingSpec& training = plan.spec.training();
  EXPECT_EQ(training.shards(), 1);
  EXPECT_TRUE(training.shuffle());
  EXPECT_EQ(training.log_every(), 50);
  EXPECT_EQ(training.optimizer().adam().learning_rate(), 0.001);
  EXPECT_EQ(training.optimizer().adam().beta_1(), 0.9);
  EXPECT_EQ(training.optimizer().adam().beta_2(), 0.999);
  EXPECT_EQ(training.optimizer().adam().epsilon(), 1e-7);
  EXPECT_EQ(plan.spec.data().train().x(0), "x");
  EXPECT_EQ(plan.spec.data().validation().y(0), "y");
  EXPECT_EQ(plan.spec.model().layers(2).name(), "dense_1");

  Request again;
  again.spec = plan.spec;
  EXPECT_EQ(again.Plan()->spec.DebugString(), plan.spec.DebugString());
  EXPECT_EQ(again.Plan()->fingerprint, plan.fingerprint);

  Request large;
  Training(large).set_batch_size(100);
  Training(large).mutable_optimizer()->mutable_sgd();
  Training(large).set_shuffle(false);
  Training(large).set_max_steps(1);
  EXPECT_EQ(large.Plan()->spec.training().shards(), 2);
  EXPECT_EQ(large.Plan()->spec.training().optimizer().sgd().learning_rate(), 0.01);
  EXPECT_FALSE(large.Plan()->spec.training().shuffle());
  EXPECT_EQ(large.Plan()->total_steps, 1);
}

// "Jobs with the same fingerprint have the same result."
TEST(FingerprintTest, DependsOnWhatTheResultDependsOn) {
  const std::string fingerprint = Request().Plan()->fingerprint;
  const std::function<void(Request&)> same[] = {
      [](Request& r) { r.spec.mutable_resources()->set_threads(3); },
      [](Request& r) { r.spec.mutable_resources()->set_profile(true); },
      [](Request& r) { r.spec.set_publish_as("digits"); },
      [](Request& r) {
        r.spec.mutable_data()->mutable_train()->set_dataset("renamed");
        r.train.set_name("renamed");
      },
      [](Request& r) { r.spec.mutable_data()->mutable_train()->add_x("x"); },
      [](Request& r) { Training(r).set_shards(1); },
      [](Request& r) { Layer(r, 1)->set_name("batch_normalization"); },
      [](Request& r) { r.memory /= 2; },
  };
  for (size_t i = 0; i < std::size(same); ++i) {
    Request request;
    same[i](request);
    EXPECT_EQ(request.Plan()->fingerprint, fingerprint) << "change " << i;
  }
  const std::function<void(Request&)> other[] = {
      [](Request& r) { Training(r).set_seed(2); },
      [](Request& r) { Training(r).set_shards(2); },
      [](Request& r) { Training(r).set_batch_size(25); },
      [](Request& r) { Training(r).set_epochs(3); },
      [](Request& r) { Training(r).set_shuffle(false); },
      [](Request& r) { Training(r).mutable_optimizer()->mutable_adam()->set_epsilon(1e-8); },
      [](Request& r) { r.train.mutable_tensors(0)->mutable_blob()->set_sha256("0"); },
      [](Request& r) { r.validation.mutable_tensors(1)->mutable_blob()->set_sha256("0"); },
      [](Request& r) { Layer(r, 0)->mutable_dense()->set_units(17); },
      [](Request& r) { Layer(r, 1)->mutable_batch_normalization()->set_epsilon(1e-5); },
  };
  for (size_t i = 0; i < std::size(other); ++i) {
    Request request;
    other[i](request);
    EXPECT_NE(request.Plan()->fingerprint, fingerprint) << "change " << i;
  }
}

}  // namespace
}  // namespace lockstep
