// Who gets which sample, and in which order what shards computed is combined.

#include "core/parallel/shards.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/parallel/moments.h"

namespace lockstep {
namespace {

// Contract rule 4.
TEST(ShardBeginTest, CutsABatchIntoConsecutiveEvenParts) {
  for (int64_t samples : {0, 1, 2, 7, 8, 9, 100, 255, 256, 257, 60000}) {
    for (int shards : {1, 2, 3, 7, 8, 255, 256}) {
      ASSERT_EQ(ShardBegin(samples, shards, 0), 0);
      ASSERT_EQ(ShardBegin(samples, shards, shards), samples);
      for (int v = 0; v < shards; ++v) {
        ASSERT_EQ(ShardBegin(samples, shards, v), v * samples / shards);
        const int64_t size = ShardBegin(samples, shards, v + 1) - ShardBegin(samples, shards, v);
        ASSERT_GE(size, samples / shards);
        ASSERT_LE(size, (samples + shards - 1) / shards);
      }
    }
  }
}

TEST(ShardBeginTest, DoesNotOverflow) {
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(ShardBegin(kLargest, 256, 256), kLargest);
  EXPECT_EQ(ShardBegin(kLargest, 256, 128), kLargest / 2);
  EXPECT_EQ(ShardBegin(kLargest, 256, 255), kLargest - kLargest / 256 - 1);
}

TEST(DefaultShardsTest, FollowsTheBatchSize) {
  const std::pair<int64_t, int> table[] = {
      {1, 1},   {32, 1},  {63, 1},  {64, 2},  {96, 2},   {127, 2},
      {128, 4}, {255, 4}, {256, 8}, {512, 8}, {4096, 8}, {std::numeric_limits<int64_t>::max(), 8}};
  for (const auto& [batch_size, shards] : table) {
    EXPECT_EQ(DefaultShards(batch_size), shards) << batch_size;
  }
}

// Contract rule 5 word for word: the node over leaves [begin, begin + width), width a power of 2.
std::string Node(int begin, int width, int leaves) {
  if (begin >= leaves) return "";
  if (width == 1) return std::to_string(begin);
  const std::string left = Node(begin, width / 2, leaves);
  const std::string right = Node(begin + width / 2, width / 2, leaves);
  return right.empty() ? left : "(" + left + " " + right + ")";
}

TEST(TreeReducerTest, CombinesOverTheContractsTree) {
  for (int leaves = 1; leaves <= 300; ++leaves) {
    std::vector<std::string> stack;
    size_t deepest = 0;
    const auto merge = [&](int times) {
      for (; times > 0; --times) {
        ASSERT_GE(stack.size(), 2u);
        const std::string right = std::move(stack.back());
        stack.pop_back();
        stack.back() = "(" + stack.back() + " " + right + ")";
      }
    };
    TreeReducer reducer;
    for (int leaf = 0; leaf < leaves; ++leaf) {
      stack.push_back(std::to_string(leaf));
      deepest = std::max(deepest, stack.size());
      merge(reducer.PushMerges());
    }
    merge(reducer.FinalMerges());
    ASSERT_EQ(stack.size(), 1u) << leaves;
    EXPECT_EQ(stack[0], Node(0, 512, leaves)) << leaves;
    EXPECT_LE(deepest, static_cast<size_t>(TreeReducer::Depth(leaves))) << leaves;
  }
}

struct Moments {
  double count = 0;
  std::vector<double> mean;
  std::vector<double> m2;
};

// Of the rows [begin, end) of values [rows, channels], in long double.
Moments MomentsOf(const std::vector<double>& values, int channels, int begin, int end) {
  Moments moments = {static_cast<double>(end - begin), std::vector<double>(channels),
                     std::vector<double>(channels)};
  for (int c = 0; c < channels && begin < end; ++c) {
    long double sum = 0;
    for (int r = begin; r < end; ++r) sum += values[r * channels + c];
    const long double mean = sum / (end - begin);
    long double m2 = 0;
    for (int r = begin; r < end; ++r) {
      m2 += (values[r * channels + c] - mean) * (values[r * channels + c] - mean);
    }
    moments.mean[c] = static_cast<double>(mean);
    moments.m2[c] = static_cast<double>(m2);
  }
  return moments;
}

Moments Merged(Moments a, const Moments& b) {
  MergeMoments(static_cast<int64_t>(a.mean.size()), a.count, a.mean.data(), a.m2.data(), b.count,
               b.mean.data(), b.m2.data());
  return a;
}

TEST(MergeMomentsTest, GivesTheMomentsOfTheWhole) {
  constexpr int kRows = 1000;
  constexpr int kChannels = 3;
  std::mt19937 random(5);
  std::vector<double> values(kRows * kChannels);
  for (int r = 0; r < kRows; ++r) {
    values[r * kChannels] = random() % 1000 / 1000.0;
    // Large beside its spread: sums of squares would lose all digits.
    values[r * kChannels + 1] = 1e8 + random() % 1000 / 1000.0;
    values[r * kChannels + 2] = 7.0;
  }
  const Moments whole = MomentsOf(values, kChannels, 0, kRows);
  for (int cut : {0, 1, 499, 900, 999, kRows}) {
    const Moments merged =
        Merged(MomentsOf(values, kChannels, 0, cut), MomentsOf(values, kChannels, cut, kRows));
    EXPECT_EQ(merged.count, kRows);
    for (int c = 0; c < kChannels; ++c) {
      EXPECT_NEAR(merged.mean[c], whole.mean[c], 1e-15 * std::abs(whole.mean[c])) << cut;
      EXPECT_NEAR(merged.m2[c], whole.m2[c], 1e-7 * whole.m2[c]) << cut << " channel " << c;
    }
    EXPECT_NEAR(merged.m2[0], whole.m2[0], 1e-13 * whole.m2[0]) << cut;
    EXPECT_EQ(merged.m2[2], 0.0);
  }
}

// Contract rule 2: "a part without rows passes the other operand through unchanged".
TEST(MergeMomentsTest, AnEmptySidePassesTheOtherThrough) {
  const Moments empty = {0, {0.125, -1}, {3, 4}};  // what stands there does not matter
  const Moments some = {3, {0.1, -0.0}, {0.3, 1e-300}};
  for (const Moments& merged : {Merged(some, empty), Merged(empty, some)}) {
    EXPECT_EQ(merged.count, some.count);
    EXPECT_EQ(merged.mean, some.mean);
    EXPECT_TRUE(std::signbit(merged.mean[1]));
    EXPECT_EQ(merged.m2, some.m2);
  }
  EXPECT_EQ(Merged(empty, empty).count, 0);
}

}  // namespace
}  // namespace lockstep
