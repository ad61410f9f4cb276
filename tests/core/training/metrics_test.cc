// Metrics against what Keras 3 computes (tests/oracle/golden_losses.py), the area under the ROC
// curve against counted pairs.

#include "core/training/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

// The numbers of `rows` rows, measured in batches of several sizes: any cut gives the same.
std::vector<float> Measure(const Metric& metric, int64_t rows, int64_t columns, const float* y,
                           const Targets& targets) {
  std::vector<float> numbers(rows * metric.width());
  for (int64_t begin = 0, count; begin < rows; begin += count) {
    count = std::min(rows - begin, 1 + begin % 7);
    const Targets part = {
        .labels = targets.labels == nullptr ? nullptr : targets.labels + begin,
        .values = targets.values == nullptr ? nullptr : targets.values + begin * columns};
    metric.Measure(count, y + begin * columns, part, numbers.data() + begin * metric.width());
  }
  return numbers;
}

TEST(MetricsOracleTest, AreKeras) {
  const std::vector<GoldenCase> cases = ReadGolden("metrics");
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    const Loss loss(golden.Spec<v1::Loss>());
    const GoldenTensor& y = golden["prediction"];
    const GoldenTensor& target = golden["target"];
    const std::vector<int32_t> labels(target.values.begin(), target.values.end());
    const Targets targets = {.labels = loss.has_labels() ? labels.data() : nullptr,
                             .values = loss.has_labels() ? nullptr : target.values.data()};
    int metrics = 0;
    for (const auto& [name, tensor] : golden.tensors) {
      if (name == "prediction" || name == "target") continue;
      SCOPED_TRACE(golden.name + ": " + name);
      const auto metric = Metric::Make(name, loss.activation(), y.shape[1]);
      ASSERT_TRUE(metric);
      EXPECT_NEAR(metric->Value(Measure(*metric, y.shape[0], y.shape[1], y.values.data(), targets)),
                  tensor.values[0], 1e-6);
      ++metrics;
    }
    EXPECT_GE(metrics, 2) << golden.name;
  }
}

double AreaByPairs(const std::vector<float>& scores, const std::vector<float>& targets) {
  double right = 0;
  double pairs = 0;
  for (size_t p = 0; p < scores.size(); ++p) {
    for (size_t n = 0; n < scores.size(); ++n) {
      if (targets[p] <= 0.5f || targets[n] > 0.5f) continue;
      pairs += 1;
      right += scores[p] > scores[n] ? 1 : scores[p] == scores[n] ? 0.5 : 0;
    }
  }
  return pairs == 0 ? 0 : right / pairs;
}

double Area(const std::vector<float>& scores, const std::vector<float>& targets) {
  const auto metric = Metric::Make("auc", kernels::Activation::kSigmoid, 1);
  const auto rows = std::ssize(scores);
  return metric->Value(Measure(*metric, rows, 1, scores.data(), {.values = targets.data()}));
}

TEST(AreaUnderRocTest, IsTheShareOfPairsInTheRightOrder) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const size_t samples = 1 + random() % 60;
    const uint32_t levels = 1 + random() % 40;  // few: many ties
    std::vector<float> scores(samples), targets(samples);
    for (float& s : scores) s = static_cast<float>(random() % levels) - 3.5f;
    for (float& t : targets) t = static_cast<float>(random() % 2);
    EXPECT_DOUBLE_EQ(Area(scores, targets), AreaByPairs(scores, targets)) << round;
  }
  EXPECT_EQ(Area({1, 2, 3}, {0, 0, 1}), 1);
  EXPECT_EQ(Area({1, 2, 3}, {1, 0, 0}), 0);
  EXPECT_EQ(Area({5, 5, 5}, {1, 0, 1}), 0.5);
  EXPECT_EQ(Area({5, 6}, {1, 1}), 0) << "no pairs";
}

TEST(AreaUnderRocTest, TakesWhatIsNoNumber) {
  const float nan = std::nanf("");
  EXPECT_EQ(Area({nan, 2, nan, 1}, {0, 1, 0, 1}), 1);
  EXPECT_EQ(Area({nan, INFINITY, -INFINITY}, {0, 1, 1}), 0.75);
}

TEST(MetricsTest, OrderOfSamplesDoesNotMatterToCounts) {
  std::mt19937 random(3);
  std::vector<float> y(400 * 5);
  for (float& v : y) v = static_cast<float>(random() % 1000);
  std::vector<int32_t> labels(400);
  for (int32_t& label : labels) label = static_cast<int32_t>(random() % 5);
  for (const char* name : {"accuracy", "top_2_accuracy", "precision", "recall", "f1"}) {
    const auto metric = Metric::Make(name, kernels::Activation::kSoftmax, 5);
    const double value =
        metric->Value(Measure(*metric, 400, 5, y.data(), {.labels = labels.data()}));
    std::vector<int> order(400);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<float> shuffled_y;
    std::vector<int32_t> shuffled_labels;
    for (int n : order) {
      shuffled_y.insert(shuffled_y.end(), y.begin() + 5 * n, y.begin() + 5 * n + 5);
      shuffled_labels.push_back(labels[n]);
    }
    EXPECT_EQ(metric->Value(
                  Measure(*metric, 400, 5, shuffled_y.data(), {.labels = shuffled_labels.data()})),
              value)
        << name;
  }
}

// Rule 8: blocks of 1024 in double.
TEST(MetricsTest, MeansAreExactOverManySamples) {
  std::vector<float> values(300000, 0.1f);
  EXPECT_NEAR(BlockMean(values), static_cast<double>(0.1f), 1e-15);
  EXPECT_EQ(BlockMean(std::vector<float>{3}), 3);
}

}  // namespace
}  // namespace lockstep
