// The table that ends a watch: right at every width, however long the log was.

#include "client/cli/metric_curves.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::Event Step(const std::string& name, double mean) {
  v1::Event event;
  v1::MetricSummary& metric = *event.mutable_step()->add_metrics();
  metric.set_name(name);
  metric.set_mean(mean);
  metric.set_last(1000);
  return event;
}

v1::Event Epoch(int64_t epoch, const std::vector<std::pair<std::string, double>>& metrics) {
  v1::Event event;
  event.mutable_epoch()->set_epoch(epoch);
  for (const auto& [name, value] : metrics) {
    v1::Metric& metric = *event.mutable_epoch()->add_metrics();
    metric.set_name(name);
    metric.set_value(value);
  }
  return event;
}

int Columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

// Four epochs of four steps; validation is best in the third.
MetricCurves Overfitted() {
  MetricCurves curves;
  for (int epoch = 1; epoch <= 4; ++epoch) {
    for (int step = 0; step < 4; ++step) {
      v1::Event event = Step("loss", 1.0 - 0.05 * (4 * (epoch - 1) + step));
      *event.mutable_step()->add_metrics() =
          Step("accuracy", 0.5 + 0.025 * (4 * (epoch - 1) + step)).step().metrics(0);
      curves.Apply(event);
    }
    const double off = std::abs(epoch - 3);
    curves.Apply(Epoch(epoch, {{"loss", 1.0 - 0.2 * epoch},
                               {"accuracy", 0.5 + 0.1 * epoch},
                               {"val_loss", 0.4 + 0.1 * off * off},
                               {"val_accuracy", 0.8 - 0.1 * off * off}}));
  }
  return curves;
}

TEST(MetricCurvesTest, ShowsEachMetricWithItsNewestValueAndAnEarlierBest) {
  EXPECT_THAT(Overfitted().Table({.width = 77, .unicode = true}),
              ElementsAre("  loss          ██▇▇▆▆▅▅▄▄▃▃▂▂▁▁  0.2000",
                          "  val_loss      ████▃▃▃▃▁▁▁▁▃▃▃▃  0.5000  best 0.4000 in epoch 3",
                          "  accuracy      ▁▁▂▂▃▃▄▄▅▅▆▆▇▇██  0.9000",
                          "  val_accuracy  ▁▁▁▁▆▆▆▆████▆▆▆▆  0.7000  best 0.8000 in epoch 3"));
  EXPECT_THAT(Overfitted().Table({.width = 77})[1],
              "  val_loss      ####----____----  0.5000  best 0.4000 in epoch 3");
}

TEST(MetricCurvesTest, IsNeverWiderThanTheTerminal) {
  MetricCurves curves = Overfitted();
  for (int i = 0; i < 500; ++i) curves.Apply(Step("a_metric_with_a_long_name_accuracy", i * 1e5));
  for (int width = 20; width <= 200; ++width) {
    for (const std::string& line : curves.Table({.width = width, .unicode = true})) {
      EXPECT_LE(Columns(line), width) << line;
    }
  }
  const std::vector<std::string> narrow = Overfitted().Table({.width = 37, .unicode = true});
  EXPECT_EQ(narrow[1], "  val_loss      ████▃▃▃▁▁▁▃▃▃  0.5000") << "the best value gives way";
  EXPECT_EQ(Overfitted().Table({.width = 26, .unicode = true})[1], "  val_loss      0.5000");
  EXPECT_EQ(Overfitted().Table({.width = 18})[3], "  val_accu  0.7000");
}

TEST(MetricCurvesTest, ALongLogKeepsItsShapeInSixtyColumns) {
  MetricCurves curves;
  constexpr int kSteps = 120 * 1024;
  for (int i = 0; i < kSteps; ++i) curves.Apply(Step("loss", i < kSteps / 2 ? 1 : 0));
  std::string wanted = "  loss  ";
  for (int i = 0; i < 60; ++i) wanted += i < 30 ? "█" : "▁";
  EXPECT_THAT(curves.Table({.width = 200, .unicode = true}), ElementsAre(wanted + "  0.0000"));
}

TEST(MetricCurvesTest, WithoutACurveThereIsJustTheValue) {
  MetricCurves curves;
  EXPECT_TRUE(curves.Table({}).empty());
  curves.Apply(Epoch(1, {{"loss", 0.5}, {"val_loss", 0.6}}));
  EXPECT_THAT(curves.Table({.unicode = true}),
              ElementsAre("  loss      0.5000", "  val_loss  0.6000"));
}

// After the epoch's record came more steps: a job that was cancelled.
TEST(MetricCurvesTest, TheNewestValueCountsAndLossesFallWhileOthersGrow) {
  MetricCurves curves;
  curves.Apply(Epoch(1, {{"loss", 0.5}, {"odd", 5}, {"q_auc", 0.9}}));
  curves.Apply(Epoch(2, {{"loss", 0.7}, {"odd", 9}, {"q_auc", 0.8}}));
  curves.Apply(Step("loss", 0.6));
  const std::vector<std::string> table = curves.Table({});
  EXPECT_THAT(table[0], HasSubstr("  0.6000  best 0.5000 in epoch 1"));
  EXPECT_THAT(table[1], Not(HasSubstr("best"))) << "nobody knows what is better";
  EXPECT_THAT(table[2], HasSubstr("  0.8000  best 0.9000 in epoch 1"));
}

TEST(MetricCurvesTest, NotFiniteValuesAreShownAndNeverTheBest) {
  MetricCurves curves;
  for (const double loss : {0.5, -HUGE_VAL, std::nan(""), 1.0}) {
    curves.Apply(Epoch(1, {{"loss", loss}}));
  }
  curves.Apply(Epoch(2, {{"loss", 2.0}}));
  EXPECT_THAT(curves.Table({.unicode = true}),
              ElementsAre("  loss  ▁××▃█  2.0000  best 0.5000 in epoch 1"));
}

}  // namespace
}  // namespace lockstep
