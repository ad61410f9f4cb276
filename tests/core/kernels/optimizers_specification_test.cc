// Rule 9: optimizer steps, one parameter after another as the contract writes them.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/kernels/kernels.h"
#include "tests/core/kernels/specification.h"

namespace lockstep {
namespace {

using specification::Floats;

// Of any sign and size, from subnormal to 2^20; every fourth is zero.
Floats NumbersOfEverySize(std::mt19937& random, int64_t n) {
  Floats values(n);
  for (float& x : values) {
    const float significand = 1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f;
    const int exponent = static_cast<int>(random() % 170) - 149;
    x = random() % 4 == 0 ? 0.0f : std::ldexp(significand, exponent);
    if (random() % 2 == 0) x = -x;
  }
  return values;
}

Floats Magnitudes(Floats values) {
  for (float& x : values) x = std::abs(x);
  return values;
}

bool SameBits(const Floats& a, const Floats& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class OptimizerSpecificationTest : public testing::Test {
 protected:
  static constexpr int64_t kParameters = 100'003;

  std::mt19937 random_{9};
  Floats g_ = NumbersOfEverySize(random_, kParameters);
  Floats w_ = NumbersOfEverySize(random_, kParameters);
};

TEST_F(OptimizerSpecificationTest, AdamIsRuleNineForNumbersOfEverySize) {
  const Floats m0 = NumbersOfEverySize(random_, kParameters);
  const Floats v0 = Magnitudes(NumbersOfEverySize(random_, kParameters));
  for (const auto& [alpha, epsilon] :
       {std::pair{1e-3f, 1e-7f}, {3e-2f, 1e-8f}, {0.0f, 1e-7f}, {1e-3f, 1e-12f}, {1e4f, 1e-7f}}) {
    const kernels::AdamStep step = {alpha, 1.0f - 0.9f, 1.0f - 0.999f, epsilon};
    Floats m = m0, v = v0, w = w_;
    for (int64_t i = 0; i < kParameters; ++i) {
      m[i] = std::fma(g_[i] - m[i], step.one_minus_beta_1, m[i]);
      v[i] = std::fma(g_[i] * g_[i] - v[i], step.one_minus_beta_2, v[i]);
      w[i] = w[i] - (alpha * m[i]) / (std::sqrt(v[i]) + epsilon);
    }
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
      SCOPED_TRACE(testing::Message() << (*table)->name << ", " << alpha << ", " << epsilon);
      Floats m1 = m0, v1 = v0, w1 = w_;
      (*table)->adam(step, kParameters, g_.data(), m1.data(), v1.data(), w1.data());
      EXPECT_TRUE(SameBits(m, m1)) << "m";
      EXPECT_TRUE(SameBits(v, v1)) << "v";
      EXPECT_TRUE(SameBits(w, w1)) << "w";
    }
  }
}

TEST_F(OptimizerSpecificationTest, SgdIsRuleNine) {
  const Floats v0 = NumbersOfEverySize(random_, kParameters);
  for (bool nesterov : {false, true}) {
    const kernels::SgdStep step = {1e-2f, 0.9f, nesterov};
    Floats v = v0, w = w_;
    for (int64_t i = 0; i < kParameters; ++i) {
      const float d = step.learning_rate * g_[i];
      v[i] = step.momentum * v[i] - d;
      w[i] = w[i] + (nesterov ? step.momentum * v[i] - d : v[i]);
    }
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
      SCOPED_TRACE((*table)->name);
      Floats v1 = v0, w1 = w_;
      (*table)->sgd(step, kParameters, g_.data(), v1.data(), w1.data());
      EXPECT_TRUE(SameBits(v, v1)) << "velocity";
      EXPECT_TRUE(SameBits(w, w1)) << "w";
    }
  }
}

TEST_F(OptimizerSpecificationTest, RmsPropIsRuleNine) {
  const Floats square = Magnitudes(NumbersOfEverySize(random_, kParameters));
  const Floats average = NumbersOfEverySize(random_, kParameters);
  const Floats change = NumbersOfEverySize(random_, kParameters);
  const kernels::RmsPropStep step = {
      .learning_rate = 1e-3f, .one_minus_rho = 1.0f - 0.9f, .momentum = 0.5f, .epsilon = 1e-7f};
  for (bool centered : {false, true}) {
    Floats s = square, a = average, d = change, w = w_;
    for (int64_t i = 0; i < kParameters; ++i) {
      s[i] = std::fma(g_[i] * g_[i] - s[i], step.one_minus_rho, s[i]);
      float c = s[i];
      if (centered) {
        a[i] = std::fma(g_[i] - a[i], step.one_minus_rho, a[i]);
        c = std::max(0.0f, std::fma(0.0f - a[i], a[i], s[i]));
      }
      d[i] = step.momentum * d[i] + step.learning_rate * g_[i] / std::sqrt(c + step.epsilon);
      w[i] = w[i] - d[i];
    }
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
      SCOPED_TRACE(testing::Message() << (*table)->name << (centered ? ", centered" : ""));
      Floats s1 = square, a1 = average, d1 = change, w1 = w_;
      (*table)->rmsprop(step, kParameters, g_.data(), s1.data(), centered ? a1.data() : nullptr,
                        d1.data(), w1.data());
      EXPECT_TRUE(SameBits(s, s1)) << "square";
      EXPECT_TRUE(SameBits(a, a1)) << "average";
      EXPECT_TRUE(SameBits(d, d1)) << "change";
      EXPECT_TRUE(SameBits(w, w1)) << "w";
    }
  }
}

}  // namespace
}  // namespace lockstep
