// Every loss against what Keras 3 computes (tests/oracle/golden_losses.py), and bit by bit against
// the contract's formulas (core/README.md, rule 8), with every instruction set this CPU has.

#include "core/training/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/core/kernels/specification.h"
#include "tests/core/parse_json.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

using Floats = std::vector<float>;

struct Computed {
  Floats losses;
  Floats gradient;
};

Computed Compute(const Loss& loss, const kernels::KernelTable& kernels, int64_t columns,
                 const Floats& y, const Targets& targets, float scale) {
  const auto rows = static_cast<int64_t>(y.size()) / columns;
  Computed computed = {Floats(rows), Floats(y.size())};
  loss.Compute(kernels, rows, columns, y.data(), targets, scale, computed.losses.data(),
               computed.gradient.data());
  // Nobody asks for the gradient in validation.
  Floats losses(rows);
  loss.Compute(kernels, rows, columns, y.data(), targets, scale, losses.data(), nullptr);
  EXPECT_EQ(losses, computed.losses);
  return computed;
}

TEST(LossOracleTest, IsKeras) {
  const std::vector<GoldenCase> cases = ReadGolden("losses");
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
      SCOPED_TRACE(golden.name + " " + golden.spec + ", " + (*table)->name);
      const Loss loss(golden.Spec<v1::Loss>());
      const GoldenTensor& y = golden["prediction"];
      const int64_t rows = y.shape[0];
      const std::vector<int32_t> labels(golden["target"].values.begin(),
                                        golden["target"].values.end());
      Targets targets;
      if (loss.has_labels()) {
        targets.labels = labels.data();
      } else {
        targets.values = golden["target"].values.data();
      }
      if (golden.has("sample_weight")) targets.weights = golden["sample_weight"].values.data();
      const Computed got =
          Compute(loss, **table, y.shape[1], y.values, targets, 1.0f / static_cast<float>(rows));
      // What a probability near 1 lacks to 1 is known to float32's precision at 1 only.
      constexpr double kLeast = 0.1;
      ExpectClose(got.losses, golden["per_sample"], "per_sample", kLeast);
      ExpectClose(got.gradient, golden["dprediction"], "gradient", kLeast / rows);
      const float mean = std::accumulate(got.losses.begin(), got.losses.end(), 0.0) / rows;
      ExpectClose({&mean, 1}, golden["loss"], "loss", kLeast);
    }
  }
}

// On logits, a sure answer's loss keeps its digits however small it is.
TEST(LossOracleTest, BinaryIsPreciseWhereItIsSmall) {
  const Loss loss(ParseJson<v1::Loss>(R"({"binaryCrossentropy":{}})"));
  for (float x : {0.5f, 3.0f, 12.0f, 20.0f, 60.0f}) {
    const float one = 1;
    const Computed got = Compute(loss, *kernels::Kernels(), 1, {x}, {.values = &one}, 1);
    const double want = std::log1p(std::exp(-static_cast<double>(x)));
    EXPECT_NEAR(got.losses[0] / want, 1, 1e-6) << x;
  }
}

// Rule 8 as scalar loops.
namespace rule {

using namespace specification;  // NOLINT: the contract's functions by their names

float Log(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  int exponent = static_cast<int>(bits >> 23) - 126;
  float m = std::ldexp(x, -exponent);
  if (m < 0.707106781186547524f) {
    exponent -= 1;
    m = m + m - 1.0f;
  } else {
    m = m - 1.0f;
  }
  float p = 7.0376836292e-2f;
  for (float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                  -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f}) {
    p = std::fma(p, m, c);
  }
  const float z = m * m;
  const auto e = static_cast<float>(exponent);
  return std::fma(e, 0.693359375f, m + std::fma(z, -0.5f, std::fma(e, -2.12194440e-4f, m * z * p)));
}

struct Row {
  float loss;
  Floats gradient;
};

Row CrossEntropy(const float* x, int32_t label, int64_t n, float scale) {
  const float max = *std::max_element(x, x + n);
  float sum = Exp(x[0] - max);
  for (int64_t j = 1; j < n; ++j) sum += Exp(x[j] - max);
  Row row = {Log(sum) + (max - x[label]), Floats(n)};
  for (int64_t j = 0; j < n; ++j) {
    const float p = Exp(x[j] - max) / sum;
    row.gradient[j] = (j == label ? p - 1.0f : p) * scale;
  }
  return row;
}

Row SoftCrossEntropy(const float* x, const float* target, int64_t n, float keep, float add,
                     float scale) {
  const float max = *std::max_element(x, x + n);
  float sum = Exp(x[0] - max);
  for (int64_t j = 1; j < n; ++j) sum += Exp(x[j] - max);
  Row row = {0, Floats(n)};
  float total = 0;
  for (int64_t j = 0; j < n; ++j) {
    const float t = std::fma(target[j], keep, add);
    row.loss = std::fma(t, Log(sum) + (max - x[j]), row.loss);
    total += t;
  }
  for (int64_t j = 0; j < n; ++j) {
    const float t = std::fma(target[j], keep, add);
    row.gradient[j] = (Exp(x[j] - max) / sum * total - t) * scale;
  }
  return row;
}

Row BinaryCrossEntropy(const float* x, const float* target, int64_t n, float keep, float add,
                       float scale) {
  Row row = {0, Floats(n)};
  for (int64_t j = 0; j < n; ++j) {
    const float t = std::fma(target[j], keep, add);
    const float e = Exp(0.0f - std::abs(x[j]));
    const float u = 1.0f + e;
    row.loss += std::fma(0.0f - t, x[j], Relu(x[j])) + (Log(u) + (e - (u - 1.0f)) / u);
    row.gradient[j] = (Sigmoid(x[j]) - t) * (scale / static_cast<float>(n));
  }
  row.loss /= static_cast<float>(n);
  return row;
}

Row Elementwise(const v1::Loss& spec, const float* y, const float* target, int64_t n, float scale) {
  Row row = {0, Floats(n)};
  const float share = scale / static_cast<float>(n);
  const auto delta = static_cast<float>(spec.huber().delta());
  for (int64_t j = 0; j < n; ++j) {
    const float d = y[j] - target[j];
    const auto sign = static_cast<float>((d > 0) - (d < 0));
    const float a = std::abs(d);
    if (spec.has_mean_squared_error()) {
      row.loss = std::fma(d, d, row.loss);
      row.gradient[j] = d * (2.0f * share);
    } else if (spec.has_mean_absolute_error()) {
      row.loss += a;
      row.gradient[j] = sign * share;
    } else {
      row.loss += a <= delta ? 0.5f * d * d : delta * (a - 0.5f * delta);
      row.gradient[j] = a <= delta ? d * share : sign * (delta * share);
    }
  }
  row.loss /= static_cast<float>(n);
  return row;
}

}  // namespace rule

TEST(LossSpecificationTest, IsRuleEightBitForBit) {
  constexpr float kScale = 1.0f / 77;
  const auto keep = static_cast<float>(1 - 0.1);
  std::mt19937 random(5);
  const auto draw = [&](int64_t count, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    Floats values(count);
    for (float& v : values) v = uniform(random);
    return values;
  };
  for (const char* json :
       {R"({"sparseCategoricalCrossentropy":{}})", R"({"categoricalCrossentropy":{}})",
        R"({"categoricalCrossentropy":{"labelSmoothing":0.1}})", R"({"binaryCrossentropy":{}})",
        R"({"binaryCrossentropy":{"labelSmoothing":0.1}})", R"({"meanSquaredError":{}})",
        R"({"meanAbsoluteError":{}})", R"({"huber":{"delta":0.7}})"}) {
    const auto spec = ParseJson<v1::Loss>(json);
    const bool smooth = std::string(json).find("Smoothing") != std::string::npos;
    for (int64_t columns : {1, 2, 7, 8, 16, 19, 150, 5000}) {
      const int64_t rows = columns > 1000 ? 2 : 37;
      Floats y = draw(rows * columns, -20, 20);
      const Floats target = draw(rows * columns, 0, 1);
      y[0] = target[0];
      const Floats weight = draw(rows, 0, 3);
      std::vector<int32_t> labels(rows);
      for (int32_t& label : labels) label = static_cast<int32_t>(random() % columns);
      for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table; ++table) {
        const Computed got = Compute(
            Loss(spec), **table, columns, y,
            {.labels = labels.data(), .values = target.data(), .weights = weight.data()}, kScale);
        for (int64_t r = 0; r < rows; ++r) {
          SCOPED_TRACE(std::string(json) + ", " + std::to_string(columns) + " columns, row " +
                       std::to_string(r) + ", " + (*table)->name);
          const float* row = y.data() + r * columns;
          const float* t = target.data() + r * columns;
          rule::Row want;
          if (spec.has_sparse_categorical_crossentropy()) {
            want = rule::CrossEntropy(row, labels[r], columns, kScale);
          } else if (spec.has_categorical_crossentropy()) {
            want = rule::SoftCrossEntropy(row, t, columns, smooth ? keep : 1,
                                          smooth ? static_cast<float>(0.1 / columns) : 0, kScale);
          } else if (spec.has_binary_crossentropy()) {
            want = rule::BinaryCrossEntropy(row, t, columns, smooth ? keep : 1,
                                            smooth ? static_cast<float>(0.1 / 2) : 0, kScale);
          } else {
            want = rule::Elementwise(spec, row, t, columns, kScale);
          }
          ASSERT_EQ(got.losses[r], want.loss * weight[r]);
          for (int64_t j = 0; j < columns; ++j) {
            ASSERT_EQ(got.gradient[r * columns + j], want.gradient[j] * weight[r]) << j;
          }
        }
      }
    }
  }
}

// Contract rule 13: no logit that is not a number hides behind the others.
TEST(LossTest, NanShowsInTheLoss) {
  const std::vector<int32_t> labels = {0};
  const Floats target = {1, 0, 0};
  for (const char* json :
       {R"({"sparseCategoricalCrossentropy":{}})", R"({"categoricalCrossentropy":{}})",
        R"({"binaryCrossentropy":{}})", R"({"meanSquaredError":{}})", R"({"meanAbsoluteError":{}})",
        R"({"huber":{"delta":1}})"}) {
    const Loss loss(ParseJson<v1::Loss>(json));
    for (int j = 0; j < 3; ++j) {
      for (float bad : {std::nanf(""), INFINITY}) {
        Floats y = {1, 2, 3};
        y[j] = bad;
        float value;
        loss.Compute(*kernels::Kernels(), 1, 3, y.data(),
                     {.labels = loss.has_labels() ? labels.data() : nullptr,
                      .values = loss.has_labels() ? nullptr : target.data()},
                     1, &value, nullptr);
        EXPECT_FALSE(std::isfinite(value)) << json << ", output " << j << " is " << bad;
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
