// The distributions of initial values against closed forms, and what seeds mean (core/README.md,
// rule 10). Draws are fixed by their seeds; bounds are five standard errors or more.

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "core/network/network.h"
#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

using Floats = std::vector<float>;

constexpr int64_t kIn = 300;
constexpr int64_t kUnits = 200;

// The kernel [in, units] of a dense layer with this initializer.
Floats Kernel(const std::string& initializer, uint64_t seed = 7, int64_t in = kIn,
              int64_t units = kUnits) {
  auto spec = ParseJson<v1::ModelSpec>(
      absl::StrCat(R"({"inputs":[{"shape":[)", in, R"(]}],"layers":[{"dense":{"units":)", units,
                   R"(,"useBias":false,"kernelInitializer":{)", initializer, "}}}]}"));
  const auto network = Network::Build(&spec);
  EXPECT_TRUE(network.ok()) << network.status();
  Floats parameters(network->parameters_size());
  network->Initialize(seed, parameters, {});
  parameters.resize(in * units);
  return parameters;
}

TEST(InitializersTest, NormalDistributions) {
  const double average = 2.0 / (kIn + kUnits);
  // Of the normal distribution without what is beyond 2 deviations: its variance, and the part
  // within 1.
  const double density_at_2 = std::exp(-2.0) / std::sqrt(2 * std::numbers::pi);
  const double within_2 = std::erf(2 / std::sqrt(2.0));
  const double truncated_variance = 1 - 4 * density_at_2 / within_2;
  const struct {
    const char* initializer;
    double mean, variance;
    bool truncated;
  } table[] = {
      {R"("randomNormal":{})", 0, 0.05 * 0.05, false},
      {R"("randomNormal":{"mean":-2,"stddev":3})", -2, 9, false},
      {R"("truncatedNormal":{})", 0, 0.05 * 0.05 * truncated_variance, true},
      {R"("truncatedNormal":{"mean":1,"stddev":0.5})", 1, 0.25 * truncated_variance, true},
      {R"("glorotNormal":{})", 0, average, true},
      {R"("heNormal":{})", 0, 2.0 / kIn, true},
      {R"("lecunNormal":{})", 0, 1.0 / kIn, true},
      {R"("varianceScaling":{})", 0, 1.0 / kIn, true},
      {R"("varianceScaling":{"scale":3,"mode":"fan_out"})", 0, 3.0 / kUnits, true},
      {R"("varianceScaling":{"mode":"fan_avg","distribution":"untruncated_normal"})", 0, average,
       false},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.initializer);
    const Floats values = Kernel(row.initializer);
    const auto n = static_cast<double>(values.size());
    // Before truncation.
    const double deviation = std::sqrt(row.variance / (row.truncated ? truncated_variance : 1));
    double sum = 0, squares = 0, within_1 = 0, largest = 0;
    for (float v : values) {
      const double d = v - row.mean;
      sum += d;
      squares += d * d;
      within_1 += std::abs(d) < deviation;
      largest = std::max(largest, std::abs(d));
    }
    EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(row.variance / n));
    EXPECT_NEAR(squares / n, row.variance, 5 * row.variance * std::sqrt(2 / n));
    const double part = std::erf(1 / std::sqrt(2.0)) / (row.truncated ? within_2 : 1);
    EXPECT_NEAR(within_1 / n, part, 5 * std::sqrt(part * (1 - part) / n));
    if (row.truncated) {
      EXPECT_LE(largest, 2 * deviation * 1.00001);
      EXPECT_GT(largest, 1.99 * deviation);
    } else {
      EXPECT_GT(largest, 3.5 * deviation);
    }
  }
}

TEST(InitializersTest, UniformDistributions) {
  const struct {
    const char* initializer;
    double limit;
  } table[] = {
      {R"("lecunUniform":{})", std::sqrt(3.0 / kIn)},
      {R"("varianceScaling":{"scale":2,"distribution":"uniform"})", std::sqrt(6.0 / kIn)},
      {R"("varianceScaling":{"mode":"fan_avg","distribution":"uniform"})",
       std::sqrt(6.0 / (kIn + kUnits))},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.initializer);
    const Floats values = Kernel(row.initializer);
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    EXPECT_NEAR(*least, -row.limit, 1e-3 * row.limit);
    EXPECT_NEAR(*most, row.limit, 1e-3 * row.limit);
    EXPECT_LE(*most, row.limit * 1.00001);
  }
  // The same limits, so the same bits.
  EXPECT_EQ(Kernel(R"("varianceScaling":{"scale":2,"distribution":"uniform"})"),
            Kernel(R"("heUniform":{})"));
}

// Where a draw is within two deviations, truncation leaves it as it is.
TEST(InitializersTest, TruncationDrawsAgain) {
  const Floats plain = Kernel(R"("randomNormal":{"stddev":1})");
  const Floats truncated = Kernel(R"("truncatedNormal":{"stddev":1})");
  int64_t redrawn = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (std::abs(plain[i]) <= 2) {
      ASSERT_EQ(plain[i], truncated[i]);
    } else {
      ASSERT_NE(plain[i], truncated[i]);
      ++redrawn;
    }
  }
  EXPECT_NEAR(static_cast<double>(redrawn) / std::ssize(plain), 0.0455, 0.005);
}

TEST(InitializersTest, OrthogonalMatrices) {
  const struct {
    int64_t rows, columns;
  } shapes[] = {{1, 1}, {5, 5}, {40, 13}, {13, 40}, {1, 7}, {200, 200}};
  for (const auto& [rows, columns] : shapes) {
    SCOPED_TRACE(absl::StrCat(rows, " x ", columns));
    const double gain = 1.5;
    const Floats q = Kernel(R"("orthogonal":{"gain":1.5})", 3, rows, columns);
    const bool tall = rows >= columns;
    const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
    const auto at = [&](int64_t vector, int64_t k) {
      return static_cast<double>(tall ? q[k * columns + vector] : q[vector * columns + k]);
    };
    // The numbers of the same counter as a matrix [length, count]: with Q R for it, Q^T times it
    // is upper triangular, its diagonal positive.
    const Floats a = Kernel(R"("randomNormal":{"stddev":1})", 3, length, count);
    for (int64_t u = 0; u < count; ++u) {
      for (int64_t v = 0; v < count; ++v) {
        double product = 0, r = 0;
        for (int64_t k = 0; k < length; ++k) {
          product += at(u, k) * at(v, k);
          r += at(u, k) * a[k * count + v];
        }
        ASSERT_NEAR(product, u == v ? gain * gain : 0, 2e-6) << u << ", " << v;
        if (u == v) {
          ASSERT_GT(r, 0) << u;
        } else if (u > v) {
          ASSERT_NEAR(r, 0, 3e-5) << u << ", " << v;
        }
      }
    }
  }
}

TEST(InitializersTest, OrthogonalKernelsOfConvolutions) {
  auto spec = ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[8,8,3]}],"layers":[{"conv2d":{
      "filters":10,"kernelSize":[3],"useBias":false,"kernelInitializer":{"orthogonal":{}}}}]})");
  const auto network = Network::Build(&spec);
  ASSERT_TRUE(network.ok()) << network.status();
  Floats q(network->parameters_size());
  network->Initialize(1, q, {});
  for (int u = 0; u < 10; ++u) {
    for (int v = 0; v < 10; ++v) {
      double product = 0;
      for (int k = 0; k < 27; ++k) product += double{q[k * 10 + u]} * q[k * 10 + v];
      EXPECT_NEAR(product, u == v ? 1 : 0, 1e-6);
    }
  }
}

TEST(InitializersTest, Identity) {
  EXPECT_EQ(Kernel(R"("identity":{})", 1, 2, 3), (Floats{1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(Kernel(R"("identity":{"gain":-0.5})", 1, 3, 2), (Floats{-0.5, 0, 0, -0.5, 0, 0}));
}

// An initializer's seed stands in place of the job's, also beside no kind.
TEST(InitializersTest, SeedsOfTheirOwn) {
  for (const std::string kind :
       {R"("glorotUniform":{})", R"("heNormal":{})", R"("orthogonal":{})"}) {
    SCOPED_TRACE(kind);
    const Floats own = Kernel(kind + R"(,"seed":5)", 1, 20, 30);
    EXPECT_EQ(own, Kernel(kind + R"(,"seed":5)", 2, 20, 30));
    EXPECT_EQ(own, Kernel(kind, 5, 20, 30));
    EXPECT_NE(own, Kernel(kind, 1, 20, 30));
    EXPECT_NE(own, Kernel(kind + R"(,"seed":0)", 5, 20, 30));
  }
  EXPECT_EQ(Kernel(R"("seed":5)", 1), Kernel(R"("glorotUniform":{})", 5));
}

}  // namespace
}  // namespace lockstep
