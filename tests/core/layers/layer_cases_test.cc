// What every layer promises, derived from one row a layer (layer_cases.h): gradients, bits that do
// not depend on threads, instruction set or batch mates, re-entrancy.

#include "tests/core/layers/layer_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using Floats = LayerRun::Floats;

constexpr int64_t kSamples = 13;
const std::vector<int64_t> kShards = {0, 4, 4, 5, 13};  // one empty, one of a single sample

// Multiples of 0.05, none nearer to 0 or to another than that: the differences below cross no kink.
Floats SpacedValues(std::mt19937& random, int64_t n) {
  Floats values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 0.05f * (static_cast<float>(i - n / 2) + 0.5f);
  std::shuffle(values.begin(), values.end(), random);
  return values;
}

Floats RandomValues(std::mt19937& random, int64_t n) {
  std::uniform_real_distribution<float> uniform(0.2f, 1.0f);
  Floats values(n);
  for (float& v : values) v = random() % 2 == 0 ? uniform(random) : -uniform(random);
  return values;
}

class EveryLayer : public testing::TestWithParam<LayerCase> {
 protected:
  EveryLayer() : run_(GetParam().spec, GetParam().input, GetParam().others) {
    std::mt19937 random(11);
    x_ = SpacedValues(random, kSamples * run_.input_size());
    dy_ = RandomValues(random, kSamples * run_.layer->output_shape().size());
    for (const TensorSpec& p : run_.layer->parameters()) {
      parameters_.push_back(RandomValues(random, ElementCount(p.shape)));
    }
    for (const TensorSpec& b : run_.layer->buffers()) {
      buffers_.push_back(RandomValues(random, ElementCount(b.shape)));
      for (float& v : buffers_.back()) v = std::fabs(v);
    }
  }

  LayerRun::Result Run(const kernels::KernelTable* kernels, int threads,
                       const std::vector<int64_t>& shards) const {
    return run_.Run(kernels, threads, shards, x_, dy_, parameters_, buffers_);
  }

  // Sum of dy * y: what the backward pass differentiates.
  double Objective(const Floats& x, const std::vector<Floats>& parameters) const {
    const LayerRun::Result r =
        run_.Run(kernels::Kernels(), 1, kShards, x, dy_, parameters, buffers_);
    double sum = 0;
    for (size_t i = 0; i < r.y.size(); ++i) sum += static_cast<double>(dy_[i]) * r.y[i];
    return sum;
  }

  // Compares d Objective / d values[i] by central differences with `gradient`. `values` is part of
  // `x` or `parameters`.
  void CheckGradient(Floats& values, const Floats& gradient, const Floats& x,
                     const std::vector<Floats>& parameters) const {
    constexpr float kStep = 1e-2f;
    double scale = 0;
    for (float g : gradient) scale = std::max(scale, std::fabs(static_cast<double>(g)));
    std::mt19937 random(12);
    for (int check = 0; check < 40; ++check) {
      const size_t i = random() % values.size();
      const float kept = values[i];
      values[i] = kept + kStep;
      const double above = Objective(x, parameters);
      const double up = values[i];
      values[i] = kept - kStep;
      const double below = Objective(x, parameters);
      const double numeric = (above - below) / (up - values[i]);
      values[i] = kept;
      ASSERT_NEAR(gradient[i], numeric, 5e-3 * (scale + std::fabs(numeric)) + 1e-4)
          << "value " << i;
    }
  }

  LayerRun run_;
  Floats x_, dy_;
  std::vector<Floats> parameters_, buffers_;
};

void ExpectSameBits(const LayerRun::Result& a, const LayerRun::Result& b) {
  EXPECT_TRUE(SameBits(a.y, b.y)) << "y";
  EXPECT_TRUE(SameBits(a.dx, b.dx)) << "dx";
  EXPECT_TRUE(SameBits(a.infer, b.infer)) << "inference";
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    EXPECT_TRUE(SameBits(a.gradients[i], b.gradients[i])) << "gradient of parameter " << i;
  }
  for (size_t i = 0; i < a.buffers.size(); ++i) {
    EXPECT_TRUE(SameBits(a.buffers[i], b.buffers[i])) << "buffer " << i;
  }
}

TEST_P(EveryLayer, HasTheGradientsOfItsOutput) {
  if (run_.layer->traits().is_view) return;
  const LayerRun::Result r = Run(kernels::Kernels(), 1, kShards);
  Floats x = x_;
  std::vector<Floats> parameters = parameters_;
  CheckGradient(x, r.dx, x, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) {
    SCOPED_TRACE(run_.layer->parameters()[i].name);
    CheckGradient(parameters[i], r.gradients[i], x, parameters);
  }
}

TEST_P(EveryLayer, HasTheSameBitsOnAnyThreadsAndInstructionSet) {
  if (run_.layer->traits().is_view) return;
  const LayerRun::Result expected = Run(kernels::Kernels(), 1, kShards);
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int threads : {1, 2, 3, 8}) {
      SCOPED_TRACE((*table)->name);
      ExpectSameBits(expected, Run(*table, threads, kShards));
    }
  }
}

TEST_P(EveryLayer, ShardsChangeRoundingsOnly) {
  if (run_.layer->traits().is_view) return;
  const LayerRun::Result one = Run(kernels::Kernels(), 1, {0, kSamples});
  const LayerRun::Result four = Run(kernels::Kernels(), 1, kShards);
  const auto near = [](const Floats& a, const Floats& b) {
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4 * (1 + std::fabs(a[i])));
  };
  near(one.y, four.y);
  near(one.dx, four.dx);
  for (size_t i = 0; i < one.gradients.size(); ++i) near(one.gradients[i], four.gradients[i]);
  for (size_t i = 0; i < one.buffers.size(); ++i) near(one.buffers[i], four.buffers[i]);
}

TEST_P(EveryLayer, InfersARowAloneAsAmongOthers) {
  if (run_.layer->traits().is_view) return;
  const Floats together = Run(kernels::Kernels(), 1, kShards).infer;
  const int64_t out = run_.layer->output_shape().size();
  for (int64_t n = 0; n < kSamples; ++n) {
    const LayerRun::Result alone =
        run_.Run(kernels::Kernels(), 1, {0, 1}, run_.SampleOf(x_, kSamples, n),
                 Floats(dy_.begin() + n * out, dy_.begin() + (n + 1) * out), parameters_, buffers_);
    EXPECT_TRUE(SameBits(Floats(together.begin() + n * out, together.begin() + (n + 1) * out),
                         alone.infer));
  }
}

TEST_P(EveryLayer, ServesManyThreadsAtOnce) {
  if (run_.layer->traits().is_view) return;
  const LayerRun::Result expected = Run(kernels::Kernels(), 1, kShards);
  std::vector<LayerRun::Result> results(8);
  std::vector<std::thread> threads;
  for (LayerRun::Result& result : results) {
    threads.emplace_back([&] { result = Run(kernels::Kernels(), 1, kShards); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const LayerRun::Result& result : results) ExpectSameBits(expected, result);
}

INSTANTIATE_TEST_SUITE_P(Layers, EveryLayer, testing::ValuesIn(kLayerCases),
                         [](const auto& info) { return info.param.name; });

TEST(LayerCases, CoverEveryKindOfLayer) {
  for (const LayerKind& kind : LayerKinds()) {
    const bool covered =
        std::any_of(std::begin(kLayerCases), std::end(kLayerCases), [&](const LayerCase& c) {
          return LayerRun(c.spec, c.input, c.others).spec.kind_case() == kind.kind;
        });
    EXPECT_TRUE(covered) << "layer_cases.h has no row for " << kind.name;
  }
}

}  // namespace
}  // namespace lockstep
