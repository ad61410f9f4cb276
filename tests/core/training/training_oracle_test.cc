// Steps of a model with everything that happens between gradient and weights, learning rates and
// early stopping, against Keras 3 and PyTorch (tests/oracle/golden_training.py).

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/training/early_stopping.h"
#include "core/training/learning_rate.h"
#include "core/training/optimizer_checks.h"
#include "core/training/parameter_update.h"
#include "lockstep/v1/job.pb.h"
#include "tests/core/parse_json.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

Network SmallNetwork() {
  auto spec = ParseJson<v1::ModelSpec>(
      R"({"inputs":[{"shape":[2]}],"layers":[{"dense":{"units":2}},{"batchNormalization":{}}]})");
  return *Network::Build(&spec);
}

// As PlanJob fills it in.
v1::TrainingSpec WithDefaults(v1::TrainingSpec spec, const Network& network,
                              int64_t total_steps = 1) {
  const absl::Status status = CheckOptimization(network, false, total_steps, &spec);
  EXPECT_TRUE(status.ok()) << status;
  return spec;
}

v1::EpochRecord Epoch(int64_t number, float loss) {
  v1::EpochRecord record;
  record.set_epoch(number);
  v1::Metric& metric = *record.add_metrics();
  metric.set_name("loss");
  metric.set_value(double{loss});
  return record;
}

// The case's tensors "<parameter><suffix>" where the parameters lie.
std::vector<float> Flat(const GoldenCase& golden, const Network& network,
                        const std::string& suffix) {
  std::vector<float> flat(network.parameters_size());
  for (const NetworkTensor& tensor : network.parameters()) {
    const std::vector<float>& values = golden[tensor.name + suffix].values;
    EXPECT_EQ(std::ssize(values), tensor.size);
    std::copy(values.begin(), values.end(), flat.begin() + tensor.offset);
  }
  return flat;
}

void ExpectParameters(std::span<const float> got, const GoldenCase& golden, const Network& network,
                      const std::string& suffix) {
  for (const NetworkTensor& tensor : network.parameters()) {
    // A step is 1e-3 at least, so it shows in two digits more.
    ExpectEachClose(got.subspan(tensor.offset, tensor.size), golden[tensor.name + suffix],
                    tensor.name + suffix, 1e-2);
  }
}

TEST(TrainingOracleTest, ParameterUpdate) {
  ThreadPool pool(2);
  const std::vector<GoldenCase> cases = ReadGolden("parameter_update");
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
      SCOPED_TRACE(golden.name + " " + golden.spec + ", " + (*table)->name);
      auto job = golden.Spec<v1::JobSpec>();
      const auto network = Network::Build(job.mutable_model());
      ASSERT_TRUE(network.ok()) << network.status();
      const v1::TrainingSpec spec = WithDefaults(job.training(), *network);
      ParameterUpdate update(spec, *network);
      std::vector<float> w = Flat(golden, *network, "");
      for (int step = 1; golden.has("out.bias/g_" + std::to_string(step)); ++step) {
        const std::string number = std::to_string(step);
        if (golden.has("penalty_" + number)) {
          const auto penalty = static_cast<float>(update.Penalty(pool, w));
          ExpectClose({&penalty, 1}, golden["penalty_" + number], "penalty");
        } else {
          EXPECT_EQ(update.Penalty(pool, w), 0);
        }
        std::vector<float> gradient = Flat(golden, *network, "/g_" + number);
        update.Apply(**table, pool, step, BaseLearningRate(spec.optimizer()), gradient, w);
        ExpectParameters(w, golden, *network, "/w_after_" + number);
        if (spec.has_ema()) {
          ExpectParameters(update.average(), golden, *network, "/average_after_" + number);
        }
        // Each step starts from the peer's weights.
        w = Flat(golden, *network, "/w_after_" + number);
      }
    }
  }
}

TEST(TrainingOracleTest, LearningRate) {
  const Network network = SmallNetwork();
  const std::vector<GoldenCase> cases = ReadGolden("learning_rate");
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name + " " + golden.spec);
    const std::vector<float>& wanted = golden["rates"].values;
    const auto per_epoch = static_cast<int64_t>(golden["steps_per_epoch"].values[0]);
    const int64_t steps = std::ssize(wanted);
    LearningRate rate(WithDefaults(golden.Spec<v1::TrainingSpec>(), network, steps), per_epoch,
                      steps);
    std::vector<float> rates;
    for (int64_t step = 0; step < steps; ++step) {
      rates.push_back(static_cast<float>(rate.At(step)));
      if (golden.has("metric")) {
        rate.EndEpoch(Epoch(step + 1, golden["metric"].values[step]));
      }
    }
    // What is near 0 is a difference of numbers near the highest rate.
    ExpectEachClose(rates, golden["rates"], "rates", 1e-6);
  }
}

TEST(TrainingOracleTest, EarlyStopping) {
  const Network network = SmallNetwork();
  const std::vector<GoldenCase> cases = ReadGolden("early_stopping");
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name + " " + golden.spec);
    const v1::TrainingSpec spec = WithDefaults(golden.Spec<v1::TrainingSpec>(), network);
    EarlyStopping stopping(spec.early_stopping(), network);
    // The weights are the epoch's number.
    std::vector<float> parameters(network.parameters_size());
    std::vector<float> buffers(network.buffers_size());
    float stopped = 0;
    for (size_t i = 0; i < golden["metric"].values.size() && stopped == 0; ++i) {
      const auto number = static_cast<float>(i + 1);
      std::fill(parameters.begin(), parameters.end(), number);
      std::fill(buffers.begin(), buffers.end(), number);
      if (stopping.EndEpoch(Epoch(i + 1, golden["metric"].values[i]), parameters, buffers)) {
        stopped = number;
      }
    }
    const float last = parameters[0];
    const std::string text = stopping.Finish(parameters, buffers);
    EXPECT_EQ(stopped, golden["outcome"].values[0]);
    const float restored = golden["outcome"].values[1];
    EXPECT_EQ(parameters, std::vector<float>(parameters.size(), restored));
    EXPECT_EQ(buffers, std::vector<float>(buffers.size(), restored));
    EXPECT_EQ(text.find("training stopped after epoch") != text.npos, stopped > 0) << text;
    EXPECT_EQ(text.find("the weights are those of epoch ") != text.npos, restored != last) << text;
  }
}

}  // namespace
}  // namespace lockstep
