// A profile is read by people: every column says what it should, and lines keep to the terminal.

#include "client/cli/profile_view.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

v1::Profile Typical() {
  v1::Profile profile;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"(first_step: 11 last_step: 60 step_ms: 20 samples: 128 threads: 2
         peak_gflops: 200 peak_gb_per_s: 40
         rows { layer: "conv2d" phase: "forward" ms: 5 flops: 8e8 bytes: 1e7 }
         rows { layer: "conv2d" phase: "backward" ms: 10 flops: 1.6e9 bytes: 2e7 }
         rows { layer: "batch_normalization" phase: "forward sums" ms: 0.5 bytes: 4e7 }
         rows { layer: "batch_normalization" phase: "backward" ms: 2.5 bytes: 2.5e7 }
         rows { phase: "optimizer" ms: 0.04 bytes: 1e6 }
         rows { phase: "waiting" ms: 1.96 })",
      &profile));
  return profile;
}

TEST(ProfileTableTest, LooksLikeThis) {
  EXPECT_EQ(ProfileTable(Typical(), {.width = 100}),
            R"(steps 11 to 60: 20.0 ms a step of 128 samples (6.40k samples/s), 2 threads
peaks: 200 GFLOP/s of fused multiply-adds, 40.0 GB/s read from memory

LAYER                PHASE              MS   STEP  GFLOP/S  PEAK     GB/S  PEAK
conv2d               forward          5.00  25.0%    160.0   80%     2.00    5%  #########
                     backward         10.0  50.0%    160.0   80%     2.00    5%  ##################
batch_normalization  forward sums    0.500   2.5%        -     -     80.0  200%  9
                     backward         2.50  12.5%        -     -     10.0   25%  ####5
optimizer                            0.040   0.2%        -     -     25.0   62%
waiting                               1.96   9.8%        -     -        -     -  ###5
step                                  20.0 100.0%    120.0   60%     4.80   12%

by phase: forward 25%, backward 62%, forward sums 2%
GFLOP/s: taps in a convolution's padding count, though they are skipped.
GB/s: every operand counts once; above the peak, it came from a cache.
)");
}

TEST(ProfileTableTest, KeepsToTheTerminal) {
  v1::Profile profile = Typical();
  profile.mutable_rows(2)->set_layer("a_name_that_is_longer_than_any_column_for_it/bn1");
  for (const int width : {77, 80, 97, 117, 200}) {
    std::istringstream lines(ProfileTable(profile, {.width = width, .unicode = true}));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }),
                width)
          << line;
    }
  }
  EXPECT_THAT(ProfileTable(profile, {.width = 80}), HasSubstr("for_it/bn1  "))
      << "the end of a name tells layers apart";
}

TEST(ProfileTableTest, ColoursBarsOnlyWhereAllowed) {
  EXPECT_THAT(ProfileTable(Typical(), {.width = 120}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(ProfileTable(Typical(), {.width = 120, .color = true}), HasSubstr("\x1b[34m###"));
}

TEST(ProfileTableTest, UnknownPeaksHaveNoShares) {
  v1::Profile profile = Typical();
  profile.clear_peak_gflops();
  profile.clear_peak_gb_per_s();
  const std::string table = ProfileTable(profile, {.width = 100});
  EXPECT_THAT(table, HasSubstr("160.0"));
  EXPECT_THAT(table, Not(HasSubstr("inf")));
  EXPECT_THAT(table, Not(HasSubstr("nan")));
}

// How often a text occurs.
int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(ProfileImageTest, HasABarALayerMadeOfItsPhases) {
  const std::string svg = ProfileImage(Typical(), "job a<b>&c");
  EXPECT_THAT(svg, StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, HasSubstr("job a&lt;b&gt;&amp;c"));
  EXPECT_EQ(Count(svg, ">conv2d</text>"), 1);
  EXPECT_EQ(Count(svg, ">batch_normalization</text>"), 1);
  // The longest bar is conv2d's 15 ms in 400 pixels.
  EXPECT_THAT(svg,
              HasSubstr("width=\"133.3\" height=\"14.0\" fill=\"#3b76b8\"><title>forward: 5.00"));
  EXPECT_THAT(svg,
              HasSubstr("width=\"266.7\" height=\"14.0\" fill=\"#c8553d\"><title>backward: 10.0"));
  EXPECT_THAT(svg, HasSubstr(">80%</text>")) << "conv2d's share of the multiply-adds' peak";
  EXPECT_EQ(Count(svg, "<text"), Count(svg, "</text>"));
}

}  // namespace
}  // namespace lockstep
