// Losses and optimizers against what Keras 3 computes (tests/oracle), with every instruction set
// this CPU has.

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "core/training/job_plan.h"
#include "core/training/learning_rate.h"
#include "core/training/loss.h"
#include "core/training/optimizer.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

// Calls check(case, kernels) for every case of a kind.
template <typename Check>
void ForEachCase(const std::string& kind, Check check) {
  const std::vector<GoldenCase> cases = ReadGolden(kind);
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
         ++table) {
      SCOPED_TRACE(kind + "/" + golden.name + " " + golden.spec + ", " + (*table)->name);
      check(golden, **table);
    }
  }
}

TEST(KerasOracleTest, Loss) {
  ForEachCase("loss", [](const GoldenCase& golden, const kernels::KernelTable& kernels) {
    const Loss loss(golden.Spec<v1::Loss>());
    const std::string output = loss.has_labels() ? "logits" : "prediction";
    const GoldenTensor& y = golden[output];
    const int64_t rows = y.shape[0];
    std::vector<int32_t> labels;
    Targets targets;
    if (loss.has_labels()) {
      labels.assign(golden["labels"].values.begin(), golden["labels"].values.end());
      targets.labels = labels.data();
    } else {
      targets.values = golden["target"].values.data();
    }
    std::vector<float> losses(rows);
    std::vector<float> gradient(y.values.size());
    loss.Compute(kernels, rows, y.shape[1], y.values.data(), targets,
                 1.0f / static_cast<float>(rows), losses.data(), gradient.data());
    // What a probability near 1 lacks to 1 is known to float32's precision at 1 only.
    constexpr double kLeast = 0.1;
    ExpectClose(losses, golden["per_sample"], "per_sample", kLeast);
    ExpectClose(gradient, golden["d" + output], "d" + output, kLeast / rows);
    const float mean = std::accumulate(losses.begin(), losses.end(), 0.0) / rows;
    ExpectClose({&mean, 1}, golden["loss"], "loss", kLeast);
  });
}

// The optimizer as a job that says no more than `optimizer` gets it.
v1::Optimizer WithDefaults(const v1::Optimizer& optimizer) {
  v1::JobSpec spec;
  spec.mutable_model()->add_inputs()->add_shape(1);
  spec.mutable_model()->add_layers()->mutable_dense()->set_units(1);
  spec.mutable_data()->mutable_train()->set_dataset("data");
  v1::TrainingSpec& training = *spec.mutable_training();
  training.set_batch_size(1);
  training.set_epochs(1);
  *training.mutable_optimizer() = optimizer;
  training.add_losses()->mutable_mean_squared_error();
  v1::Dataset dataset;
  dataset.set_name("data");
  for (const char* name : {"x", "y"}) {
    v1::Tensor& tensor = *dataset.add_tensors();
    tensor.set_name(name);
    tensor.set_dtype("float32");
    tensor.add_shape(1);
    tensor.add_shape(1);
  }
  const absl::StatusOr<JobPlan> plan = PlanJob(spec, dataset, nullptr, int64_t{1} << 30);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? plan->spec.training().optimizer() : optimizer;
}

TEST(KerasOracleTest, Optimizer) {
  ThreadPool pool(2);
  ForEachCase("optimizer", [&](const GoldenCase& golden, const kernels::KernelTable& kernels) {
    std::vector<float> w = golden["w"].values;
    const auto size = static_cast<int64_t>(w.size());
    const v1::Optimizer spec = WithDefaults(golden.Spec<v1::Optimizer>());
    Optimizer optimizer(spec, size);
    for (int step = 1; golden.has("g_" + std::to_string(step)); ++step) {
      optimizer.Apply(kernels, pool, step, BaseLearningRate(spec), {0, size},
                      golden["g_" + std::to_string(step)].values, w);
      const std::string after = "w_after_" + std::to_string(step);
      // Weights start at about 1e-3, so a step of 1e-3 shows in five digits.
      ExpectEachClose(w, golden[after], after, 1e-3);
    }
  });
}

}  // namespace
}  // namespace lockstep
