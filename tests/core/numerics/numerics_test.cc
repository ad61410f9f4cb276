// Random numbers, powers and the float environment: what the contract's bits start from.

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <thread>

#include "core/numerics/float_environment.h"
#include "core/numerics/normal.h"
#include "core/numerics/random.h"
#include "core/numerics/scalar_math.h"

namespace lockstep {
namespace {

using Words = std::array<uint32_t, 4>;

// The vectors published with Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(PhiloxTest, GivesThePublishedAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Contract rule 10: which counter and key a number comes from is part of the promise.
TEST(RandomTest, CountsStepPurposeIndexPositionAndBlock) {
  const Random random(0x299f31d0a4093822, RandomPurpose::kDropout, 7, 0x243f6a88);
  EXPECT_EQ(random.Block(0x13198a2e, 0x03707344),
            Philox({0x243f6a88, 3u << 16 | 7, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}));
}

TEST(RandomTest, EveryArgumentGivesOtherNumbers) {
  const auto block = [](uint64_t seed, RandomPurpose purpose, uint32_t index, uint32_t step,
                        uint32_t position, uint32_t number) {
    return Random(seed, purpose, index, step).Block(position, number);
  };
  const std::set<Words> all = {
      block(1, RandomPurpose::kDropout, 1, 1, 1, 1),
      block(2, RandomPurpose::kDropout, 1, 1, 1, 1),
      block(1 + (uint64_t{1} << 32), RandomPurpose::kDropout, 1, 1, 1, 1),
      block(1, RandomPurpose::kShuffle, 1, 1, 1, 1),
      block(1, RandomPurpose::kInitialize, 1, 1, 1, 1),
      block(1, RandomPurpose::kDropout, 2, 1, 1, 1),
      block(1, RandomPurpose::kDropout, 1, 2, 1, 1),
      block(1, RandomPurpose::kDropout, 1, 1, 2, 1),
      block(1, RandomPurpose::kDropout, 1, 1, 1, 2),
  };
  EXPECT_EQ(all.size(), 9u);
}

TEST(RandomTest, UniformsLieWithinZeroAndOne) {
  EXPECT_EQ(Random::Uniform(0), 0.0f);
  EXPECT_EQ(Random::Uniform(0xff), 0.0f);
  EXPECT_EQ(Random::Uniform(0x100), 0x1p-24f);
  EXPECT_EQ(Random::Uniform(0xffffffff), 1.0f - 0x1p-24f);

  const Random random(42, RandomPurpose::kInitialize, 0, 0);
  std::array<int, 16> counts = {};
  constexpr int kBlocks = 16000;
  for (uint32_t i = 0; i < kBlocks; ++i) {
    for (uint32_t bits : random.Block(0, i)) {
      const float u = Random::Uniform(bits);
      ASSERT_GE(u, 0.0f);
      ASSERT_LT(u, 1.0f);
      ++counts[static_cast<int>(u * 16)];
    }
  }
  // 4000 expected a sixteenth, standard deviation 61.
  for (int count : counts) EXPECT_NEAR(count, 4 * kBlocks / 16, 305);
}

// From Python's statistics.NormalDist().inv_cdf in double, rounded to float: both ends, the middle,
// and both sides of where the formula changes.
TEST(NormalTest, IsTheInverseDistributionFunction) {
  EXPECT_EQ(NormalFromBits(0), -0x1.95a11ap+2f);
  EXPECT_EQ(NormalFromBits(0x1), -0x1.8aa6c8p+2f);
  EXPECT_EQ(NormalFromBits(0x3039), -0x1.22445ep+2f);
  EXPECT_EQ(NormalFromBits(0x1332ffff), -0x1.70868cp+0f);
  EXPECT_EQ(NormalFromBits(0x13333333), -0x1.708522p+0f);
  EXPECT_EQ(NormalFromBits(0x20000000), -0x1.267d4cp+0f);
  EXPECT_EQ(NormalFromBits(0x40000000), -0x1.5956b8p-1f);
  EXPECT_EQ(NormalFromBits(0x7fffffff), -0x1.40d932p-32f);
  EXPECT_EQ(NormalFromBits(0xfffff000), 0x1.30d56ap+2f);
  EXPECT_EQ(NormalFromBits(0xffffffff), 0x1.95a11ap+2f);
}

TEST(NormalTest, IsSymmetricAndAscends) {
  float before = NormalFromBits(0);
  for (uint32_t i = 1; i < 1 << 16; ++i) {
    const float value = NormalFromBits(i << 16);
    ASSERT_GT(value, before) << i;
    ASSERT_EQ(NormalFromBits(~(i << 16)), -value) << i;
    before = value;
  }
}

TEST(PowerTest, IsRepeatedMultiplication) {
  EXPECT_EQ(Power(0.9, 0), 1.0);
  EXPECT_EQ(Power(0.9, 1), 0.9);
  EXPECT_EQ(Power(0.9, 2), 0.9 * 0.9);
  EXPECT_EQ(Power(0.9, 3), 0.9 * (0.9 * 0.9));
  EXPECT_EQ(Power(2.0, 1000), 0x1p1000);
  EXPECT_EQ(Power(0.0, 5), 0.0);
  EXPECT_EQ(Power(1.0, std::numeric_limits<int64_t>::max()), 1.0);
  EXPECT_EQ(Power(0.999, int64_t{1} << 40), 0.0);
  for (double base : {0.9, 0.999, 0.5, 1.0001}) {
    for (int64_t exponent : {7, 100, 1001, 65537}) {
      const double expected = static_cast<double>(
          std::pow(static_cast<long double>(base), static_cast<long double>(exponent)));
      // Every squaring doubles the relative error, so it grows with the exponent.
      EXPECT_NEAR(Power(base, exponent), expected,
                  std::abs(expected) * 0x1p-53 * 2 * static_cast<double>(exponent))
          << base << "^" << exponent;
    }
  }
}

// Half of the smallest normal float: 0 when subnormal results are flushed.
float SubnormalProduct() {
  volatile float smallest = std::numeric_limits<float>::min();
  volatile float half = 0.5f;
  return smallest * half;
}

// Contract rule 12: a library that flushes subnormals or rounds down changes no bit of ours.
TEST(FloatEnvironmentTest, ResetUndoesFlushingAndRounding) {
  // On a thread of its own: the environment is a thread's.
  std::thread([] {
    _mm_setcsr(0x1f80 | 0x8040 | _MM_ROUND_DOWN);
    volatile float one = 1.0f;
    volatile float tiny = 0x1p-30f;
    ASSERT_EQ(SubnormalProduct(), 0.0f);
    ASSERT_LT(one - tiny, 1.0f);
    ResetFloatEnvironment();
    EXPECT_EQ(SubnormalProduct(), 0x1p-127f);
    EXPECT_EQ(one - tiny, 1.0f);
  }).join();
}

}  // namespace
}  // namespace lockstep
