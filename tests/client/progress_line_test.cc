// The progress line tells the important things first and never wraps.

#include "client/cli/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

int Columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

ProgressLine Typical() {
  return {.label = "epoch 3/5",
          .fraction = 0.5125,
          .count = "1202/2345",
          .elapsed_s = 32,
          .remaining_s = 30.4,
          .rate = "1.62k samples/s",
          .metrics = {"loss=0.4312", "accuracy=0.8531"}};
}

TEST(ProgressLineTest, ReadsLikeTqdms) {
  EXPECT_EQ(Render(Typical(), {.width = 130}),
            "epoch 3/5  51%|###############3              | 1202/2345 "
            "[00:32<00:30, 1.62k samples/s, loss=0.4312, accuracy=0.8531]");
  EXPECT_EQ(Render(Typical(), {.width = 98, .unicode = true}),
            "epoch 3/5  51%|█████▋     | 1202/2345 "
            "[00:32<00:30, 1.62k samples/s, loss=0.4312, accuracy=0.8531]");
}

TEST(ProgressLineTest, NarrowTerminalsKeepWhatMatters) {
  EXPECT_EQ(Render(Typical(), {.width = 80}),
            "epoch 3/5  51%|#####1    | 1202/2345 [00:32<00:30, 1.62k samples/s, loss=0.4312]");
  EXPECT_EQ(Render(Typical(), {.width = 70}),
            "epoch 3/5  51% 1202/2345 [00:32<00:30, 1.62k samples/s, loss=0.4312]");
  EXPECT_EQ(Render(Typical(), {.width = 56}),
            "epoch 3/5  51% 1202/2345 [00:32<00:30, 1.62k samples/s]");
  EXPECT_EQ(Render(Typical(), {.width = 40}), "epoch 3/5  51% 1202/2345 [00:32<00:30]");
  EXPECT_EQ(Render(Typical(), {.width = 14}), "epoch 3/5  51%");
}

TEST(ProgressLineTest, IsNeverWiderThanTheTerminal) {
  ProgressLine line = Typical();
  for (int metrics = 0; metrics < 4; ++metrics) {
    line.metrics.push_back(std::string(40, 'm') + "=1.0");
    for (bool unicode : {false, true}) {
      for (int width = 1; width <= 250; ++width) {
        for (double fraction : {0.0, 0.333, 0.999, 1.0}) {
          line.fraction = fraction;
          EXPECT_LE(Columns(Render(line, {.width = width, .unicode = unicode})), width);
        }
      }
    }
  }
}

TEST(ProgressLineTest, LongNamesAreCutBetweenCharacters) {
  ProgressLine line;
  line.label = "größenmaß größenmaß größenmaß";
  for (int width = 1; width < 40; ++width) {
    const std::string text = Render(line, {.width = width});
    EXPECT_LE(Columns(text), width);
    if (text.empty()) continue;
    EXPECT_TRUE((text.back() & 0xc0) != 0xc0) << "a lead byte at the end";
  }
}

TEST(ProgressLineTest, BarIsFullOnlyAtTheEndAndEmptyOnlyAtTheBeginning) {
  ProgressLine line;
  line.count = "n";
  line.fraction = 0.9999;
  EXPECT_THAT(Render(line, {.width = 60}), HasSubstr(" 99%|"));
  EXPECT_THAT(Render(line, {.width = 60}), HasSubstr("9|"));
  line.fraction = 1;
  EXPECT_THAT(Render(line, {.width = 60}), HasSubstr("100%|##############################|"));
  line.fraction = 0;
  EXPECT_THAT(Render(line, {.width = 60}), HasSubstr("  0%|                              |"));
  // Out of range, as a server might say: no crash and no overflow.
  line.fraction = 7;
  EXPECT_THAT(Render(line, {.width = 60}), HasSubstr("100%|##############################|"));
}

TEST(ProgressLineTest, WithoutATotalThereIsNoPercentageAndNoBar) {
  ProgressLine line = Typical();
  line.fraction.reset();
  const std::string text = Render(line, {.width = 100});
  EXPECT_EQ(text,
            "epoch 3/5 1202/2345 [00:32<00:30, 1.62k samples/s, loss=0.4312, accuracy=0.8531]");
}

TEST(ProgressLineTest, UnknownTimeLeftIsAQuestionMark) {
  ProgressLine line = Typical();
  line.remaining_s.reset();
  EXPECT_THAT(Render(line, {.width = 100}), HasSubstr("[00:32<?, "));
  line.fraction.reset();
  EXPECT_THAT(Render(line, {.width = 100}), HasSubstr("[00:32, "));
}

TEST(ProgressLineTest, ColorCostsNoColumns) {
  const std::string plain = Render(Typical(), {.width = 100, .unicode = true});
  const std::string colored = Render(Typical(), {.width = 100, .unicode = true, .color = true});
  EXPECT_THAT(plain, Not(HasSubstr("\x1b")));
  EXPECT_EQ(colored.size(), plain.size() + std::string("\x1b[32m\x1b[0m").size());
}

TEST(TextLineTest, WarningsStandOut) {
  v1::Text text;
  text.set_text("dead channels");
  EXPECT_EQ(TextLine(text, {.color = true}), "note: dead channels");
  text.set_severity(v1::Text::WARNING);
  EXPECT_EQ(TextLine(text, {}), "WARNING: dead channels");
  EXPECT_EQ(TextLine(text, {.color = true}), "\x1b[1;33mWARNING: dead channels\x1b[0m");
  text.set_severity(v1::Text::ERROR);
  EXPECT_EQ(TextLine(text, {}), "ERROR: dead channels");
}

TEST(FormatTest, Clock) {
  EXPECT_EQ(FormatClock(0), "00:00");
  EXPECT_EQ(FormatClock(59.6), "01:00");
  EXPECT_EQ(FormatClock(3723), "1:02:03");
  EXPECT_EQ(FormatClock(2 * 86400 + 3 * 3600 + 240), "2d 03:04");
  EXPECT_EQ(FormatClock(-5), "00:00");
  EXPECT_EQ(FormatClock(std::numeric_limits<double>::infinity()), "00:00");
}

TEST(FormatTest, RateHasThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatRate(1.5, "sample"), "1.50 samples/s");
  EXPECT_EQ(FormatRate(99.94, "sample"), "99.9 samples/s");
  EXPECT_EQ(FormatRate(999.4, "sample"), "999 samples/s");
  EXPECT_EQ(FormatRate(999.6, "sample"), "1.00k samples/s");
  EXPECT_EQ(FormatRate(1620, "sample"), "1.62k samples/s");
  EXPECT_EQ(FormatRate(25'300'000, "sample"), "25.3M samples/s");
  EXPECT_EQ(FormatRate(0.5, "sample"), "2 s/sample");
  EXPECT_EQ(FormatRate(0, "sample"), "? samples/s");
  EXPECT_EQ(FormatRate(std::nan(""), "sample"), "? samples/s");
}

TEST(FormatTest, MetricsKeepTheirDigits) {
  EXPECT_EQ(FormatMetric(0.43118), "0.4312");
  EXPECT_EQ(FormatMetric(0), "0.0000");
  EXPECT_EQ(FormatMetric(-12.5), "-12.5000");
  EXPECT_EQ(FormatMetric(0.0000123), "1.230e-05");
  EXPECT_EQ(FormatMetric(1234567), "1.235e+06");
  EXPECT_EQ(FormatMetric(std::nan("")), "nan");
}

TEST(SparklineTest, GoesFromTheLeastToTheMost) {
  EXPECT_EQ(Sparkline(std::vector<double>{3, 2, 1}, {.unicode = true}), "█▅▁");
  EXPECT_EQ(Sparkline(std::vector<double>{1, 1}, {.unicode = true}), "▁▁");
  EXPECT_EQ(Sparkline(std::vector<double>{3, 2, 1}, {.unicode = false}), "#+_");
  EXPECT_EQ(Sparkline(std::vector<double>{2, 1}, {.unicode = true, .color = true}),
            "\x1b[32m█▁\x1b[0m");
  constexpr double kMost = std::numeric_limits<double>::max();
  EXPECT_EQ(Sparkline(std::vector<double>{-kMost, kMost}, {.unicode = true}), "▁█");
  EXPECT_EQ(Sparkline(std::vector<double>{}, {.unicode = true}), "");
}

TEST(SparklineTest, WhatIsNotFiniteIsSeenAndDoesNotMoveTheRest) {
  const std::vector<double> values = {3, std::nan(""), 2, std::numeric_limits<double>::infinity(),
                                      1};
  EXPECT_EQ(Sparkline(values, {.unicode = true}), "█×▅×▁");
  EXPECT_EQ(Sparkline(values, {.unicode = false}), "#!+!_");
  EXPECT_EQ(Sparkline(std::vector<double>{std::nan("")}, {.unicode = true}), "×");
}

}  // namespace
}  // namespace lockstep
