// What PlanJob asks of losses, metrics and data.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "tests/core/training/plan_request.h"

namespace lockstep {
namespace {

v1::TrainingSpec& Training(Request& r) { return *r.spec.mutable_training(); }
v1::Loss* Loss(Request& r) { return Training(r).mutable_losses(0); }
v1::Dense* LastLayer(Request& r) {
  return r.spec.mutable_model()->mutable_layers(2)->mutable_dense();
}
v1::Tensor* Targets(Request& r) { return r.train.mutable_tensors(1); }

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Changes the good request into one with another loss that is as good.
void MakeValues(Request& r) {
  Training(r).clear_metrics();
  Loss(r)->mutable_mean_squared_error();
  LastLayer(r)->set_activation("linear");
  for (v1::Dataset* dataset : {&r.train, &r.validation}) dataset->mutable_tensors(1)->add_shape(3);
}
void MakeOneHot(Request& r) {
  Loss(r)->mutable_categorical_crossentropy();
  for (v1::Dataset* dataset : {&r.train, &r.validation}) dataset->mutable_tensors(1)->add_shape(3);
}
void MakeBinary(Request& r, int64_t units = 1) {
  Loss(r)->mutable_binary_crossentropy();
  LastLayer(r)->set_activation("sigmoid");
  LastLayer(r)->set_units(units);
  for (v1::Dataset* dataset : {&r.train, &r.validation}) {
    dataset->mutable_tensors(1)->add_shape(units);
  }
}
void AddWeights(Request& r) {
  r.spec.mutable_data()->mutable_train()->set_sample_weight("weight");
  v1::Tensor& weight = *r.train.add_tensors();
  weight.set_name("weight");
  weight.set_dtype("float32");
  weight.add_shape(100);
}
// No validation set, so that there may be a split.
absl::StatusOr<JobPlan> PlanSplit(double split) {
  Request r;
  r.spec.mutable_data()->set_validation_split(split);
  return PlanJob(r.spec, r.train, nullptr, kMemory);
}

TEST(JobChecksTest, EveryLossIsAcceptedAndItsDefaultsAreFilledIn) {
  const std::function<void(Request&)> losses[] = {
      [](Request&) {},
      MakeOneHot,
      [](Request& r) { MakeBinary(r); },
      [](Request& r) { MakeBinary(r, 5); },
      MakeValues,
      [](Request& r) {
        MakeValues(r);
        Loss(r)->mutable_mean_absolute_error();
      },
      [](Request& r) {
        MakeValues(r);
        Loss(r)->mutable_huber();
      },
      // Integer labels of one number are targets of a binary loss as they are.
      [](Request& r) {
        MakeBinary(r);
        Targets(r)->mutable_shape()->RemoveLast();
        Targets(r)->set_max_value(1);
      },
  };
  for (size_t i = 0; i < std::size(losses); ++i) {
    Request r;
    losses[i](r);
    const auto plan = r.Plan();
    ASSERT_TRUE(plan.ok()) << i << ": " << plan.status();
    const v1::Loss& loss = plan->spec.training().losses(0);
    EXPECT_EQ(loss.weight(), 1) << i;
    EXPECT_TRUE(loss.has_weight()) << i;
    if (loss.has_huber()) {
      EXPECT_EQ(loss.huber().delta(), 1);
    }
  }
}

TEST(JobChecksTest, RefusesLossesThatDoNotFit) {
  ExpectRefused({
      // "val_loss" can be one thing only.
      {[](Request& r) {
         v1::ModelSpec& model = *r.spec.mutable_model();
         model.mutable_layers(model.layers_size() - 2)->set_name("body");
         model.mutable_layers(model.layers_size() - 1)->set_name("val");
         v1::Layer& second = *model.add_layers();
         second = model.layers(model.layers_size() - 2);
         second.set_name("other");
         second.add_inputs("body");
         model.add_outputs("other");
         model.add_outputs("val");
         *Training(r).add_losses() = Training(r).losses(0);
       },
       "model.outputs[1]: must not be \"val\" or begin with \"val_\", got \"val\""},
      {[](Request& r) { Training(r).clear_losses(); },
       "training.losses: must have one loss for each of the model's outputs, 1, got 0"},
      {[](Request& r) { Training(r).mutable_losses(0)->Clear(); },
       "training.losses[0]: is required: sparse_categorical_crossentropy, "},
      {[](Request& r) {
         Loss(r)->mutable_sparse_categorical_crossentropy()->set_from_logits(true);
       },
       "losses[0].sparse_categorical_crossentropy.from_logits: must be false, because the last "
       "layer \"dense_1\" ends in a softmax"},
      {[](Request& r) { LastLayer(r)->clear_activation(); },
       "from_logits: must be true, or the last layer end in a softmax (a dense or an activation "
       "layer); \"dense_1\" does not"},
      {[](Request& r) {
         MakeOneHot(r);
         Loss(r)->mutable_categorical_crossentropy()->set_from_logits(true);
       },
       "training.losses[0].categorical_crossentropy.from_logits: must be false"},
      {[](Request& r) {
         MakeBinary(r);
         Loss(r)->mutable_binary_crossentropy()->set_from_logits(true);
       },
       "training.losses[0].binary_crossentropy.from_logits: must be false, because the last layer "
       "\"dense_1\" ends in a sigmoid"},
      {[](Request& r) {
         MakeBinary(r);
         LastLayer(r)->set_activation("tanh");
       },
       "training.losses[0].binary_crossentropy.from_logits: must be true, or the last layer end "
       "in a sigmoid"},
      {[](Request& r) { LastLayer(r)->set_units(1); },
       "needs an output [N, classes] with at least 2 classes, but layer \"dense_1\" gives [N, 1]"},
      {[](Request& r) { LastLayer(r)->set_units(0); },
       "model.layers[2].dense.units: must be >= 1, got 0"},
      {[](Request& r) {
         MakeOneHot(r);
         Loss(r)->mutable_categorical_crossentropy()->set_label_smoothing(1);
       },
       "training.losses[0].categorical_crossentropy.label_smoothing: must be within [0, 1), got 1"},
      {[](Request& r) {
         MakeBinary(r);
         Loss(r)->mutable_binary_crossentropy()->set_label_smoothing(kNan);
       },
       "training.losses[0].binary_crossentropy.label_smoothing: must be within [0, 1), got nan"},
      {[](Request& r) {
         MakeValues(r);
         Loss(r)->mutable_huber()->set_delta(0);
       },
       "training.losses[0].huber.delta: must be > 0 and a finite 32-bit float, got 0"},
      {[](Request& r) {
         MakeValues(r);
         Loss(r)->mutable_huber()->set_delta(1e300);
       },
       "got 1e+300"},
  });
}

TEST(JobChecksTest, RefusesWeightsThatDoNotFit) {
  ExpectRefused({
      {[](Request& r) { Loss(r)->set_weight(-1); },
       "training.losses[0].weight: must be >= 0 and finite, got -1"},
      {[](Request& r) { Loss(r)->set_weight(kNan); }, "training.losses[0].weight: must be"},
      {[](Request& r) { Loss(r)->add_class_weights(1); },
       "training.losses[0].class_weights: must have one weight for each of the 3 classes, got 1"},
      {[](Request& r) {
         for (float weight : {1.0f, 2.0f, -3.0f}) Loss(r)->add_class_weights(weight);
       },
       "training.losses[0].class_weights[2]: must be >= 0 and finite, got -3"},
      {[](Request& r) {
         MakeBinary(r);
         for (int c = 0; c < 3; ++c) Loss(r)->add_class_weights(1);
       },
       "training.losses[0].class_weights: must have one weight for each of the 2 classes, got 3"},
      {[](Request& r) {
         MakeBinary(r, 3);
         for (int c = 0; c < 3; ++c) Loss(r)->add_class_weights(1);
       },
       "class_weights: needs one class a sample; binary_crossentropy has them with a single "
       "output only"},
      {[](Request& r) {
         MakeValues(r);
         Loss(r)->add_class_weights(1);
       },
       "training.losses[0].class_weights: needs one class a sample; there are none with this loss"},
      {[](Request& r) { r.spec.mutable_data()->mutable_validation()->set_sample_weight("weight"); },
       "data.validation.sample_weight: data set \"held-out\" has no tensor \"weight\"; it has x, "
       "y"},
      {[](Request& r) {
         AddWeights(r);
         r.train.mutable_tensors(2)->set_shape(0, 99);
       },
       "data.train: \"x\" has 100 samples, but \"weight\" has 99"},
      {[](Request& r) {
         AddWeights(r);
         r.train.mutable_tensors(2)->add_shape(3);
       },
       "data.train.sample_weight: must hold one weight a sample, but samples of \"weight\" have "
       "shape [3]"},
      {[](Request& r) {
         AddWeights(r);
         r.train.mutable_tensors(2)->set_min_value(-0.5);
       },
       "data.train.sample_weight: weights must be >= 0, but \"weight\" goes down to -0.5"},
  });
  Request good;
  AddWeights(good);
  for (float weight : {0.0f, 1.0f, 2.5f}) Loss(good)->add_class_weights(weight);
  EXPECT_TRUE(good.Plan().ok()) << good.Plan().status();
}

TEST(JobChecksTest, RefusesMetricsThatDoNotFit) {
  const auto metric = [](const char* name) {
    return [=](Request& r) { Training(r).add_metrics(name); };
  };
  const auto of_binary = [](const char* name, int64_t units) {
    return [=](Request& r) {
      MakeBinary(r, units);
      Training(r).add_metrics(name);
    };
  };
  const auto of_values = [](const char* name) {
    return [=](Request& r) {
      MakeValues(r);
      Training(r).add_metrics(name);
    };
  };
  ExpectRefused({
      {metric("Accuracy"),
       "training.metrics[1]: \"Accuracy\" is unknown; there are accuracy, top_K_accuracy, auc, "
       "precision, recall, f1, mae, rmse"},
      {metric(""), "training.metrics[1]: \"\" is unknown"},
      {metric("top_accuracy"), "\"top_accuracy\" is unknown"},
      {metric("top__accuracy"), "\"top__accuracy\" is unknown"},
      {metric("top_0_accuracy"), "\"top_0_accuracy\" is unknown"},
      {metric("top_-1_accuracy"), "\"top_-1_accuracy\" is unknown"},
      {metric("top_99999999999999999999_accuracy"), "is unknown"},
      {metric("accuracy"), "training.metrics[1]: \"accuracy\" is there twice"},
      {metric("top_3_accuracy"), "training.metrics[1]: \"top_3_accuracy\" fits no output"},
      {metric("auc"), "training.metrics[1]: \"auc\" fits no output"},
      {metric("rmse"), "fits no output"},
      {of_binary("auc", 2), "training.metrics[1]: \"auc\" fits no output"},
      {of_binary("mae", 1), "fits no output"},
      {of_binary("top_1_accuracy", 2), "fits no output"},
      {of_values("accuracy"), "training.metrics[0]: \"accuracy\" fits no output"},
      {of_values("f1"), "fits no output"},
  });
  const std::function<void(Request&)> good[] = {
      metric("top_2_accuracy"), metric("f1"),     metric("precision"), of_binary("auc", 1),
      of_binary("f1", 4),       of_values("mae"), of_values("rmse"),   of_binary("recall", 1)};
  for (const auto& change : good) {
    Request r;
    change(r);
    EXPECT_TRUE(r.Plan().ok()) << r.Plan().status();
  }
}

TEST(JobChecksTest, RefusesDataThatDoesNotFit) {
  const auto x = [](v1::Dataset& d) { return d.mutable_tensors(0); };
  const auto y = [](v1::Dataset& d) { return d.mutable_tensors(1); };
  ExpectRefused({
      {[](Request& r) {
         for (const char* name : {"x", "x2"}) r.spec.mutable_data()->mutable_train()->add_x(name);
       },
       "data.train.x: must name a tensor for each of the model's inputs, 1, got 2"},
      {[](Request& r) {
         for (const char* name : {"y", "y2"}) r.spec.mutable_data()->mutable_train()->add_y(name);
       },
       "data.train.y: must name a tensor for each of the model's outputs, 1, got 2"},
      {[](Request& r) { r.spec.mutable_data()->mutable_train()->add_y("labels"); },
       "data.train.y: data set \"small\" has no tensor \"labels\"; it has x, y"},
      {[](Request& r) { r.spec.mutable_data()->mutable_validation()->add_x("images"); },
       "data.validation.x: data set \"held-out\" has no tensor \"images\"; it has x, y"},
      {[&](Request& r) { y(r.train)->set_shape(0, 99); },
       "data.train: \"x\" has 100 samples, but \"y\" has 99"},
      {[&](Request& r) { x(r.train)->set_shape(0, 0); }, "data.train.x: \"x\" has no samples"},
      {[&](Request& r) { x(r.train)->clear_shape(); }, "data.train.x: \"x\" has no samples"},
      {[&](Request& r) { x(r.train)->set_shape(0, int64_t{1} << 31); },
       "data.train.x: \"x\" has 2147483648 samples; at most 2147483647"},
      {[&](Request& r) { x(r.train)->set_shape(1, 21); },
       "data.train.x: samples of \"x\" have shape [21], but model.inputs[0].shape is [20]"},
      {[&](Request& r) { x(r.validation)->add_shape(3); },
       "data.validation.x: samples of \"x\" have shape [20, 3], but model.inputs[0].shape is [20]"},
      // Products beyond 64 bits are no match for anything.
      {[&](Request& r) {
         x(r.train)->set_shape(1, int64_t{1} << 62);
         x(r.train)->add_shape(int64_t{1} << 62);
       },
       "but model.inputs[0].shape is [20]"},
      {[&](Request& r) { y(r.train)->set_dtype("float32"); },
       "data.train.y: labels must be integers, but \"y\" is float32"},
      {[&](Request& r) { y(r.train)->add_shape(3); },
       "data.train.y: must hold one label a sample, but samples of \"y\" have shape [3]"},
      {[&](Request& r) {
         MakeValues(r);
         y(r.train)->set_shape(1, 4);
       },
       "data.train.y: samples of \"y\" have shape [4], but the model's output is [3]"},
  });
}

TEST(JobChecksTest, RefusesTargetsOutsideTheLosssRange) {
  const auto range = [](double min, double max) {
    return [=](Request& r) {
      Targets(r)->set_min_value(min);
      Targets(r)->set_max_value(max);
    };
  };
  const auto one_hot = [&](double min, double max) {
    return [=](Request& r) {
      MakeOneHot(r);
      range(min, max)(r);
    };
  };
  ExpectRefused({{range(-1, 2), "data.train.y: labels of \"y\" go from -1 to 2"},
                 {range(0, 1000), "to 1000, but the model has classes 0 to 2"},
                 {one_hot(-0.5, 1),
                  "data.train.y: targets of \"y\" go from -0.5 to 1, but this loss wants them "
                  "within [0, 1]"},
                 {one_hot(0, 2), "targets of \"y\" go from 0 to 2"}});
}

// keras/src/trainers/data_adapters/data_adapter_utils.py, train_validation_split.
TEST(JobChecksTest, SplitsOffTheLastSamplesForValidation) {
  struct Case {
    double split;
    int64_t train;
  };
  for (const Case& c : {Case{0, 100}, {0.2, 80}, {0.25, 75}, {0.333, 66}, {0.01, 99}}) {
    const auto plan = PlanSplit(c.split);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->train_samples, c.train) << c.split;
    EXPECT_EQ(plan->validation_samples, 100 - c.train) << c.split;
    EXPECT_EQ(plan->steps_per_epoch, (c.train + 23) / 24) << c.split;
  }
  const auto refused = [](double split, const std::string& message) {
    const auto plan = PlanSplit(split);
    ASSERT_FALSE(plan.ok()) << split;
    EXPECT_NE(plan.status().message().find(message), std::string::npos) << plan.status();
  };
  refused(1, "data.validation_split: must be within [0, 1), got 1");
  refused(-0.1, "data.validation_split: must be within [0, 1), got -0.1");
  refused(std::nan(""), "data.validation_split: must be within [0, 1), got nan");
  refused(0.999, "data.validation_split: 0.999 of 100 samples leaves none to train on");
  refused(1e-18, "leaves none to validate with");
  refused(0.8, "training.batch_size: 24 is more than the 19 samples");
  ExpectRefused({{[](Request& r) { r.spec.mutable_data()->set_validation_split(0.5); },
                  "data.validation_split: must be 0 when data.validation is there, got 0.5"}});
}

}  // namespace
}  // namespace lockstep
