// Activations and normalizations within samples equal the contract's scalar loops
// (specification_activations.h) bit for bit, and those are accurate.

#include "tests/core/kernels/specification_activations.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using kernels::Activation;
using kernels::ActivationFunction;
using specification::Floats;

Floats RandomFloats(std::mt19937& random, int64_t n) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = uniform(random);
  return values;
}

// From tiny to large, with what is special.
Floats Everything(std::mt19937& random, int64_t n) {
  Floats values = RandomFloats(random, n);
  for (float& v : values) v *= std::ldexp(1.0f, static_cast<int>(random() % 20) - 10);
  const float special[] = {0.0f,     -0.0f,     1e-40f, -1e-40f, 87.5f, -87.5f, 1e30f, -1e30f,
                           INFINITY, -INFINITY, NAN,    3.0f,    -3.0f, 6.0f,   0.35f, -0.35f};
  std::copy(std::begin(special), std::end(special), values.begin() + 17);
  return values;
}

template <typename Body>
void ForEachInstructionSet(Body body) {
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    SCOPED_TRACE((*table)->name);
    body(**table);
  }
}

TEST(SpecificationActivations, EqualTheKernels) {
  namespace spec = specification;
  const struct {
    const char* name;
    ActivationFunction function;
    std::function<float(float)> value;
    std::function<float(float, float)> gradient;  // of x or y, and dy
  } table[] = {
      {"rectifier",
       {.kind = Activation::kRectifier, .negative_slope = 0.3f, .max_value = 5.0f},
       [](float x) { return spec::Rectifier(x, 0.3f, 5.0f); },
       [](float y, float dy) { return spec::RectifierSlope(y, dy, 0.3f, 5.0f); }},
      {"rectifier without slope",
       {.kind = Activation::kRectifier, .max_value = 6.0f},
       [](float x) { return spec::Rectifier(x, 0.0f, 6.0f); },
       [](float y, float dy) { return spec::RectifierSlope(y, dy, 0.0f, 6.0f); }},
      {"elu",
       {.kind = Activation::kElu, .alpha = 1.7f, .scale = 1.1f},
       [](float x) { return spec::Elu(x, 1.7f, 1.1f); },
       [](float x, float dy) { return dy * spec::EluSlope(x, 1.7f, 1.1f); }},
      {"gelu",
       {Activation::kGelu},
       spec::Gelu,
       [](float x, float dy) { return dy * spec::GeluSlope(x); }},
      {"gelu_tanh",
       {Activation::kGeluTanh},
       spec::GeluTanh,
       [](float x, float dy) { return dy * spec::GeluTanhSlope(x); }},
      {"silu",
       {Activation::kSilu},
       spec::Silu,
       [](float x, float dy) { return dy * spec::SiluSlope(x); }},
      {"hard_sigmoid", {Activation::kHardSigmoid}, spec::HardSigmoid, spec::HardSigmoidSlope},
      {"softplus",
       {Activation::kSoftplus},
       spec::Softplus,
       [](float x, float dy) { return dy * spec::Sigmoid(x); }},
  };
  std::mt19937 random(21);
  const int64_t n = 1003;
  const Floats x = Everything(random, n);
  const Floats dy = RandomFloats(random, n);
  for (const auto& row : table) {
    SCOPED_TRACE(row.name);
    Floats y(n), dx(n);
    std::transform(x.begin(), x.end(), y.begin(), row.value);
    const bool reads_x = kernels::DifferentiatesFromInput(row.function.kind);
    const Floats& read = reads_x ? x : y;
    std::transform(read.begin(), read.end(), dy.begin(), dx.begin(), row.gradient);
    ForEachInstructionSet([&](const kernels::KernelTable& kernels) {
      Floats got = x;
      kernels.activate(row.function, 1, n - 1, got.data() + 1, got.data() + 1);
      kernels.activate(row.function, 1, 1, got.data(), got.data());
      EXPECT_TRUE(SameBits(y, got)) << "y";
      got = dy;
      kernels.activate_backward(row.function, 1, n - 1, read.data() + 1, got.data() + 1,
                                got.data() + 1);
      kernels.activate_backward(row.function, 1, 1, read.data(), got.data(), got.data());
      EXPECT_TRUE(SameBits(dx, got)) << "dx";
    });
  }
}

// Relative to the value itself, in the tails too.
TEST(SpecificationActivations, AreAccurate) {
  const auto near = [](float got, double exact, double relative, double x) {
    ASSERT_NEAR(got, exact, relative * std::abs(exact) + 1e-37) << x;
  };
  for (float v = -86.0f; v < 86.0f; v += 0.00713f) {
    const double x = v;
    near(specification::Elu(v, 1.0f, 1.0f), x > 0 ? x : std::expm1(x), 3e-7, x);
    near(specification::Softplus(v), std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))), 3e-7,
         x);
    near(specification::Silu(v), x / (1 + std::exp(-x)), 3e-7, x);
  }
  for (float v = -12.9f; v < 12.9f; v += 0.00113f) {
    const double x = v;
    const double below = 0.5 * std::erfc(-x / std::sqrt(2.0));
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    near(specification::Gelu(v), x * below, 5e-7, x);
    ASSERT_NEAR(specification::GeluSlope(v), below + x * density, 3e-7) << x;
  }
  // Near 0, where e^x - 1 and log(1 + z) cancel if done carelessly.
  for (float v = 1e-20f; v < 0.5f; v *= 1.37f) {
    near(specification::Expm1(v), std::expm1(static_cast<double>(v)), 3e-7, v);
    near(specification::Expm1(-v), std::expm1(-static_cast<double>(v)), 3e-7, v);
    near(specification::Log1p(v), std::log1p(static_cast<double>(v)), 3e-7, v);
  }
}

TEST(SpecificationNormalization, Rows) {
  std::mt19937 random(22);
  for (int64_t columns : {1, 3, 8, 15, 16, 17, 33, 64, 79, 200, 2048, 4100}) {
    SCOPED_TRACE(columns);
    const int64_t rows = 5;
    Floats x = RandomFloats(random, rows * columns);
    for (float& v : x) v = v * 3.0f + 100.0f;
    const Floats dy = RandomFloats(random, rows * columns);
    const Floats gamma = RandomFloats(random, columns);
    const Floats beta = RandomFloats(random, columns);
    Floats y, normalized, inverses, dx;
    for (int64_t r = 0; r < rows; ++r) {
      const auto row =
          specification::NormalizeRow(x.data() + r * columns, columns, 1e-3, gamma, beta);
      const Floats d = specification::NormalizeRowBackward(dy.data() + r * columns, row, gamma);
      y.insert(y.end(), row.y.begin(), row.y.end());
      normalized.insert(normalized.end(), row.normalized.begin(), row.normalized.end());
      inverses.push_back(row.inverse);
      dx.insert(dx.end(), d.begin(), d.end());
    }
    ForEachInstructionSet([&](const kernels::KernelTable& kernels) {
      Floats got_y(y.size()), got_normalized(y.size()), got_inverses(rows), got_dx(y.size());
      kernels.normalize_rows(x.data(), rows, columns, 1e-3, gamma.data(), beta.data(),
                             got_normalized.data(), got_inverses.data(), got_y.data());
      kernels.normalize_rows_backward(dy.data(), normalized.data(), rows, columns, gamma.data(),
                                      inverses.data(), got_dx.data());
      EXPECT_TRUE(SameBits(y, got_y)) << "y";
      EXPECT_TRUE(SameBits(normalized, got_normalized)) << "normalized";
      EXPECT_TRUE(SameBits(inverses, got_inverses)) << "inverses";
      EXPECT_TRUE(SameBits(dx, got_dx)) << "dx";
    });
  }
}

TEST(SpecificationNormalization, Groups) {
  std::mt19937 random(23);
  for (const Shape& shape : {Shape{12}, Shape{3, 5, 6}, Shape{14, 13, 4}}) {
    for (int64_t groups : {1, 2}) {
      const LayerRun run(absl::StrCat(R"({"group_normalization": {"groups": )", groups, "}}"),
                         shape);
      const int64_t samples = 4, channels = shape.channels();
      const Floats x = RandomFloats(random, samples * shape.size());
      const std::vector<Floats> parameters = {RandomFloats(random, channels),
                                              RandomFloats(random, channels)};
      Floats y;
      for (int64_t n = 0; n < samples; ++n) {
        const Floats one =
            specification::GroupNormalize(x.data() + n * shape.size(), shape.positions(), channels,
                                          groups, 1e-3, parameters[0], parameters[1]);
        y.insert(y.end(), one.begin(), one.end());
      }
      ForEachInstructionSet([&](const kernels::KernelTable& kernels) {
        const auto result = run.Run(&kernels, 2, {0, 1, samples}, x, x, parameters, {});
        EXPECT_TRUE(SameBits(y, result.y)) << "y";
        EXPECT_TRUE(SameBits(y, result.infer)) << "inference";
      });
    }
  }
}

// Rule 22, with a channel that does not vary.
TEST(SpecificationNormalization, ByFixedStatistics) {
  std::mt19937 random(24);
  const Shape shape = {3, 5, 21};
  const int64_t samples = 4, channels = shape.channels();
  const LayerRun run(R"({"normalization": {}})", shape);
  const Floats x = RandomFloats(random, samples * shape.size());
  const Floats dy = RandomFloats(random, samples * shape.size());
  const Floats mean = RandomFloats(random, channels);
  Floats variance = RandomFloats(random, channels);
  for (float& v : variance) v = std::abs(v);
  variance[3] = 0.0f;
  Floats y, dx;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % channels;
    const double deviation = std::max(std::sqrt(static_cast<double>(variance[c])), 1e-7);
    const auto a = static_cast<float>(1.0 / deviation);
    y.push_back(std::fma(x[i] - mean[c], a, 0.0f));
    dx.push_back(std::fma(dy[i], a, 0.0f));
  }
  ForEachInstructionSet([&](const kernels::KernelTable& kernels) {
    const auto result = run.Run(&kernels, 2, {0, 1, samples}, x, dy, {}, {mean, variance});
    EXPECT_TRUE(SameBits(y, result.y)) << "y";
    EXPECT_TRUE(SameBits(y, result.infer)) << "inference";
    EXPECT_TRUE(SameBits(dx, result.dx)) << "dx";
  });
}

}  // namespace
}  // namespace lockstep
