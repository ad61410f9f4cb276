#include "server/events/curves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <vector>

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::Key;

std::vector<CurvePoint> RandomWalk(int count) {
  std::mt19937 random(count);
  std::vector<CurvePoint> points;
  double value = 0;
  for (int i = 0; i < count; ++i) {
    value += static_cast<double>(random() % 2001) - 1000;
    points.push_back({10 * (i + 1), 1.5 * i, value});
  }
  return points;
}

Curve CurveOf(const std::vector<CurvePoint>& points) {
  Curve curve;
  for (const CurvePoint& point : points) curve.Add(point);
  return curve;
}

TEST(CurveTest, KeepsEveryPointOfAShortJob) {
  for (const int count : {1, 2, 1023, 1024, 1025, 2047, 2048}) {
    const std::vector<CurvePoint> all = RandomWalk(count);
    const Curve curve = CurveOf(all);
    EXPECT_TRUE(curve.complete()) << count;
    EXPECT_THAT(curve.Points(count), ElementsAreArray(all)) << count;
  }
}

TEST(CurveTest, ShowsLoggedPointsAscendingWithBothExtremesAndTheNewest) {
  for (const int count : {3000, 100'000, 123'457}) {
    const std::vector<CurvePoint> all = RandomWalk(count);
    const Curve curve = CurveOf(all);
    const auto less = [](const CurvePoint& a, const CurvePoint& b) { return a.value < b.value; };
    const auto [least, greatest] = std::minmax_element(all.begin(), all.end(), less);
    for (const int limit : {3, 60, 500, 2000, 100'000}) {
      SCOPED_TRACE(testing::Message() << count << " points, limit " << limit);
      const std::vector<ShownPoint> points = curve.Points(limit);
      ASSERT_LE(points.size(), static_cast<size_t>(limit));
      EXPECT_GE(points.size(), std::min<size_t>(static_cast<size_t>(limit) / 2, 1024));
      EXPECT_EQ(static_cast<const CurvePoint&>(points.back()), all.back());
      double low = points[0].value;
      double high = low;
      int64_t before = 0;
      for (const CurvePoint& point : points) {
        EXPECT_LT(before, point.step);
        EXPECT_EQ(point, all[static_cast<size_t>(point.step / 10 - 1)]);
        before = point.step;
        low = std::min(low, point.value);
        high = std::max(high, point.value);
      }
      EXPECT_EQ(low, least->value);
      EXPECT_EQ(high, greatest->value);
    }
  }
}

// What smoothing needs: extremes alone lie far from the middle of skewed values.
TEST(CurveTest, PointsCarryTheMeanOfAllTheyStandFor) {
  std::mt19937 random(7);
  std::exponential_distribution<double> skewed(10);
  std::vector<CurvePoint> all;
  double sum = 0;
  for (int i = 1; i <= 100'000; ++i) {
    all.push_back({i, 0.1 * i, skewed(random)});
    sum += all.back().value;
  }
  for (const int limit : {100, 1000, 5000}) {
    double means = 0;
    const std::vector<ShownPoint> points = CurveOf(all).Points(limit);
    for (const ShownPoint& point : points) means += point.mean;
    EXPECT_NEAR(means / static_cast<double>(points.size()), sum / 1e5, 0.002) << limit;
  }
}

TEST(CurveTest, OfEqualPointsTheFirstAndTheLastStay) {
  std::vector<CurvePoint> all;
  for (int i = 1; i <= 2000; ++i) all.push_back({i, 0.1 * i, i < 1999 ? 1.0 : 5.0});
  const Curve curve = CurveOf(all);
  EXPECT_TRUE(curve.complete());
  EXPECT_THAT(curve.Points(2000), ElementsAreArray(all));
}

TEST(CurveTest, OneAskedForIsTheNewestAndNoneIsNone) {
  const Curve curve = CurveOf(RandomWalk(5000));
  ASSERT_EQ(curve.Points(1).size(), 1);
  EXPECT_EQ(curve.Points(1)[0].step, 50'000);
  EXPECT_TRUE(curve.Points(0).empty());
  EXPECT_TRUE(Curve().Points(10).empty());
}

TEST(CurveTest, ARangeOfStepsHasItsOwnNewest) {
  const std::vector<ShownPoint> points = CurveOf(RandomWalk(2000)).Points(100, 500, 1500);
  ASSERT_FALSE(points.empty());
  EXPECT_GE(points.front().step, 500);
  EXPECT_EQ(points.back().step, 1500);
}

TEST(CurveTest, ALossThatBecameNaNStaysVisible) {
  std::vector<CurvePoint> all = RandomWalk(10'000);
  all[5000].value = std::numeric_limits<double>::quiet_NaN();
  const std::vector<ShownPoint> points = CurveOf(all).Points(50);
  EXPECT_TRUE(std::any_of(points.begin(), points.end(),
                          [](const ShownPoint& point) { return std::isnan(point.value); }));
}

TEST(CurvesTest, NamesWhatEventsSay) {
  v1::Event step;
  step.set_sequence(2);
  step.mutable_time()->set_seconds(100);
  step.mutable_time()->set_nanos(500'000'000);
  step.mutable_step()->set_step(7);
  step.mutable_step()->set_learning_rate(0.1);
  v1::MetricSummary* loss = step.mutable_step()->add_metrics();
  loss->set_name("loss");
  loss->set_min(1);
  loss->set_mean(2);
  loss->set_max(9);
  step.mutable_step()->mutable_timing()->set_wait_ms(3);
  v1::Event epoch;
  epoch.set_sequence(3);
  epoch.mutable_epoch()->set_step(7);
  for (const char* name : {"loss", "val_loss"}) {
    epoch.mutable_epoch()->add_metrics()->set_name(name);
  }
  v1::Event report;
  report.set_sequence(4);
  report.mutable_batch_norm()->set_step(7);
  report.mutable_batch_norm()->add_layers()->set_layer("bn1");

  Curves curves;
  curves.Add(step);
  curves.Add(epoch);
  curves.Add(report);
  EXPECT_THAT(
      curves.all(),
      ElementsAre(Key("batch_norm/bn1/dead_channels"), Key("batch_norm/bn1/mean_drift"),
                  Key("batch_norm/inference_loss"), Key("batch_norm/training_loss"),
                  Key("compute_ms"), Key("epoch_loss"), Key("gradient_norm"), Key("learning_rate"),
                  Key("loss"), Key("reduce_ms"), Key("samples_per_second"), Key("step_ms"),
                  Key("val_loss"), Key("wait_ms")));
  EXPECT_EQ(curves.Find("loss")->newest(), (CurvePoint{7, 100.5, 2}));
  EXPECT_EQ(curves.Find("wait_ms")->newest().value, 3);
  EXPECT_EQ(curves.Find("accuracy"), nullptr);
  EXPECT_EQ(curves.last_sequence(), 4);
}

TEST(CurvesTest, AreTheSameAfterTheyWereSaved) {
  Curves curves;
  int64_t sequence = 0;
  for (const CurvePoint& point : RandomWalk(50'000)) {
    v1::Event event;
    event.set_sequence(++sequence);
    event.mutable_step()->set_step(point.step);
    event.mutable_step()->set_gradient_norm(point.value);
    curves.Add(event);
  }
  const std::optional<Curves> saved = Curves::Load(curves.Save());
  ASSERT_TRUE(saved.has_value());
  const Curves& loaded = *saved;
  EXPECT_EQ(loaded.last_sequence(), sequence);
  EXPECT_FALSE(loaded.Find("gradient_norm")->complete());
  for (const int limit : {1, 100, 3000}) {
    EXPECT_EQ(loaded.Find("gradient_norm")->Points(limit),
              curves.Find("gradient_norm")->Points(limit));
  }
}

}  // namespace
}  // namespace lockstep
