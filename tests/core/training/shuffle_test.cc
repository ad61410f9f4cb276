// The order of samples in an epoch.

#include "core/training/shuffle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "core/numerics/random.h"

namespace lockstep {
namespace {

std::vector<int32_t> Shuffled(uint64_t seed, int64_t epoch, size_t size) {
  std::vector<int32_t> order(size, -1);
  ShuffledOrder(seed, epoch, order);
  return order;
}

TEST(ShuffleTest, IsAPermutation) {
  for (size_t size : {0, 1, 2, 3, 4, 5, 8, 9, 1000, 60000}) {
    std::vector<int32_t> order = Shuffled(1, 1, size);
    std::sort(order.begin(), order.end());
    std::vector<int32_t> expected(size);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected) << size;
  }
}

TEST(ShuffleTest, IsAFunctionOfSeedAndEpoch) {
  const std::vector<int32_t> order = Shuffled(5, 2, 100);
  EXPECT_EQ(order, Shuffled(5, 2, 100));
  EXPECT_NE(order, Shuffled(6, 2, 100));
  EXPECT_NE(order, Shuffled(5 + (uint64_t{1} << 32), 2, 100));
  EXPECT_NE(order, Shuffled(5, 3, 100));
}

// The rule in shuffle.h, which is part of the contract, written once more.
TEST(ShuffleTest, FollowsItsRule) {
  constexpr int kSize = 11;
  const Random random(9, RandomPurpose::kShuffle, 0, 4);
  std::vector<int32_t> expected(kSize);
  std::iota(expected.begin(), expected.end(), 0);
  for (int i = kSize - 1; i >= 1; --i) {
    const double u = random.Block(0, i / 4)[i % 4] / 4294967296.0;
    std::swap(expected[i], expected[static_cast<int>(u * (i + 1))]);
  }
  EXPECT_EQ(Shuffled(9, 4, kSize), expected);
}

TEST(ShuffleTest, EveryOrderIsAboutAsLikely) {
  std::map<std::vector<int32_t>, int> counts;
  for (int epoch = 1; epoch <= 24000; ++epoch) ++counts[Shuffled(3, epoch, 4)];
  EXPECT_EQ(counts.size(), 24u);
  // 1000 expected of each, standard deviation 31.
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 155);
}

}  // namespace
}  // namespace lockstep
