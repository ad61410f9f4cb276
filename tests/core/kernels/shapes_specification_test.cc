// The layers that pool, multiply and draw random numbers equal the contract's scalar loops bit for
// bit, on every instruction set of this CPU and for any number of threads.

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "core/numerics/normal.h"
#include "core/numerics/random.h"
#include "tests/core/kernels/specification.h"
#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using specification::Floats;

constexpr int64_t kSamples = 5;
const std::vector<int64_t> kShards = {0, 2, 2, 5};

Floats RandomFloats(std::mt19937& random, int64_t n) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = uniform(random);
  return values;
}

// Runs body(result) for every instruction set and several numbers of threads.
template <typename Body>
void ForEachResult(const LayerRun& run, const Floats& x, const Floats& dy,
                   const std::vector<Floats>& parameters, Body body) {
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int threads : {1, 3}) {
      SCOPED_TRACE(absl::StrCat((*table)->name, ", ", threads, " threads"));
      body(run.Run(*table, threads, kShards, x, dy, parameters, {}));
    }
  }
}

// One window size and stride for both axes.
struct PoolCase {
  int64_t height, width, channels, pool, stride;
  bool same;

  std::string Spec(const std::string& kind) const {
    return absl::StrCat(R"({")", kind, R"(": {"pool_size": [)", pool, R"(], "strides": [)", stride,
                        R"(], "padding": ")", same ? "same" : "valid", R"("}})");
  }
};

// The last one's taps are more than a byte tells apart.
const PoolCase kPoolCases[] = {
    {7, 9, 19, 2, 2, false}, {7, 9, 19, 2, 2, true},     {6, 5, 3, 3, 1, true},
    {8, 7, 33, 3, 2, true},  {8, 7, 16, 3, 1, false},    {4, 7, 5, 2, 3, true},
    {2, 3, 4, 5, 2, true},   {5, 5, 2, 1, 2, true},      {1, 9, 17, 3, 2, true},
    {10, 10, 1, 4, 4, true}, {23, 19, 17, 17, 2, false},
};

// Calls body(n, c, output's index, inputs' indices of the window in (row, column) order).
template <typename Body>
void ForWindows(const PoolCase& p, Body body) {
  const auto out = [&](int64_t in) {
    return p.same ? (in + p.stride - 1) / p.stride : (in - p.pool) / p.stride + 1;
  };
  const auto pad = [&](int64_t in) {
    return p.same ? std::max<int64_t>(0, (out(in) - 1) * p.stride + p.pool - in) / 2 : 0;
  };
  int64_t y = 0;
  for (int64_t n = 0; n < kSamples; ++n) {
    for (int64_t i = 0; i < out(p.height); ++i) {
      for (int64_t j = 0; j < out(p.width); ++j) {
        for (int64_t c = 0; c < p.channels; ++c, ++y) {
          std::vector<int64_t> window;
          for (int64_t a = 0; a < p.pool; ++a) {
            for (int64_t b = 0; b < p.pool; ++b) {
              const int64_t row = i * p.stride - pad(p.height) + a;
              const int64_t column = j * p.stride - pad(p.width) + b;
              if (row < 0 || row >= p.height || column < 0 || column >= p.width) continue;
              window.push_back(((n * p.height + row) * p.width + column) * p.channels + c);
            }
          }
          body(y, window);
        }
      }
    }
  }
}

TEST(Specification, MaxPoolingLeavesOutWhatIsOutside) {
  std::mt19937 random(21);
  for (const PoolCase& p : kPoolCases) {
    const LayerRun run(p.Spec("max_pooling2d"), {p.height, p.width, p.channels});
    Floats x(kSamples * run.shape.size());
    const auto values = static_cast<uint32_t>(p.pool * p.pool + 2);
    for (float& v : x)
      v = -1.0f - static_cast<float>(random() % values);  // ties; below padding's 0
    x[x.size() / 2] = NAN;
    const Floats dy = RandomFloats(random, kSamples * run.layer->output_shape().size());
    Floats y(dy.size()), dx(x.size());
    ForWindows(p, [&](int64_t out, const std::vector<int64_t>& window) {
      int64_t best = window[0];
      for (int64_t i : window) {
        if (x[i] > x[best] || std::isnan(x[i])) best = i;
      }
      y[out] = x[best];
      dx[best] += dy[out];
    });
    SCOPED_TRACE(p.Spec("max_pooling2d"));
    ForEachResult(run, x, dy, {}, [&](const LayerRun::Result& r) {
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(y, r.infer)) << "inference";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
    });
  }
}

TEST(Specification, AveragePoolingIsOneChain) {
  std::mt19937 random(22);
  for (const PoolCase& p : kPoolCases) {
    const LayerRun run(p.Spec("average_pooling2d"), {p.height, p.width, p.channels});
    const Floats x = RandomFloats(random, kSamples * run.shape.size());
    const Floats dy = RandomFloats(random, kSamples * run.layer->output_shape().size());
    Floats y(dy.size()), dx(x.size());
    ForWindows(p, [&](int64_t out, const std::vector<int64_t>& window) {
      const auto count = static_cast<float>(window.size());
      float sum = x[window[0]];
      for (size_t i = 1; i < window.size(); ++i) sum += x[window[i]];
      y[out] = sum / count;
      for (int64_t i : window) dx[i] += dy[out] / count;
    });
    SCOPED_TRACE(p.Spec("average_pooling2d"));
    ForEachResult(run, x, dy, {}, [&](const LayerRun::Result& r) {
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(y, r.infer)) << "inference";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
    });
  }
}

TEST(Specification, MultiplyGoesFromLeftToRight) {
  std::mt19937 random(23);
  const LayerRun run(R"({"multiply": {}})", {7, 3}, {{7, 3}, {7, 3}});
  const int64_t n = kSamples * 21;
  const Floats x = RandomFloats(random, 3 * n);
  const Floats dy = RandomFloats(random, n);
  Floats y(n), dx(3 * n);
  for (int64_t i = 0; i < n; ++i) {
    const float a = x[i], b = x[n + i], c = x[2 * n + i];
    y[i] = (a * b) * c;
    dx[i] = (dy[i] * b) * c;
    dx[n + i] = (dy[i] * a) * c;
    dx[2 * n + i] = (dy[i] * a) * b;
  }
  ForEachResult(run, x, dy, {}, [&](const LayerRun::Result& r) {
    EXPECT_TRUE(SameBits(y, r.y)) << "y";
    EXPECT_TRUE(SameBits(y, r.infer)) << "inference";
    EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
  });
}

// Rule 10, with the seed, step and layer number of LayerRun; `seed` of a layer takes the job's
// place.
TEST(Specification, RandomLayersCountWordsByElement) {
  std::mt19937 random(24);
  const int64_t positions = 6, channels = 7, size = positions * channels;
  const Floats x = RandomFloats(random, kSamples * size);
  const Floats dy = RandomFloats(random, kSamples * size);
  const auto word = [](uint64_t seed, RandomPurpose purpose, int64_t n, int64_t i) {
    return Random(seed, purpose, 3, 7)
        .Block(static_cast<uint32_t>(n), static_cast<uint32_t>(i / 4))[i % 4];
  };
  for (uint64_t seed : {42, 9}) {
    const std::string field = seed == 42 ? "" : absl::StrCat(R"(, "seed": )", seed);
    SCOPED_TRACE(field);
    const LayerRun dropout(absl::StrCat(R"({"dropout": {"rate": 0.3)", field, "}}"),
                           {2, 3, channels});
    const LayerRun spatial(absl::StrCat(R"({"spatial_dropout2d": {"rate": 0.3)", field, "}}"),
                           {2, 3, channels});
    const LayerRun noise(absl::StrCat(R"({"gaussian_noise": {"stddev": 0.3)", field, "}}"),
                         {2, 3, channels});
    Floats dropped, spatially, noisy, dropped_dy, spatially_dy;
    const auto drop = [](float value, uint32_t bits) {
      return Random::Uniform(bits) >= 0.3f ? value * static_cast<float>(1 / (1 - 0.3)) : 0.0f;
    };
    for (int64_t n = 0; n < kSamples; ++n) {
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = n * size + i;
        const uint32_t own = word(seed, RandomPurpose::kDropout, n, i);
        const uint32_t channel = word(seed, RandomPurpose::kDropout, n, i % channels);
        dropped.push_back(drop(x[at], own));
        dropped_dy.push_back(drop(dy[at], own));
        spatially.push_back(drop(x[at], channel));
        spatially_dy.push_back(drop(dy[at], channel));
        noisy.push_back(
            std::fma(NormalFromBits(word(seed, RandomPurpose::kNoise, n, i)), 0.3f, x[at]));
      }
    }
    const auto expect = [&](const LayerRun& run, const Floats& y, const Floats& dx) {
      ForEachResult(run, x, dy, {}, [&](const LayerRun::Result& r) {
        EXPECT_TRUE(SameBits(y, r.y)) << "y";
        EXPECT_TRUE(SameBits(x, r.infer)) << "inference";
        EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
      });
    };
    expect(dropout, dropped, dropped_dy);
    expect(spatial, spatially, spatially_dy);
    expect(noise, noisy, dy);
  }
}

// Rule 1: two convolutions, whose value in between is rounded to float as any other.
TEST(Specification, SeparableConv2DIsItsTwoConvolutions) {
  std::mt19937 random(25);
  const Shape input = {6, 7, 3};
  const LayerRun separable(
      R"({"separable_conv2d": {"filters": 5, "kernel_size": [3, 2], "depth_multiplier": 2,
                               "padding": "same", "activation": "tanh"}})",
      input);
  const LayerRun depthwise(
      R"({"depthwise_conv2d": {"kernel_size": [3, 2], "depth_multiplier": 2, "padding": "same",
                               "use_bias": false}})",
      input);
  const LayerRun pointwise(
      R"({"conv2d": {"filters": 5, "kernel_size": [1], "activation": "tanh"}})", {6, 7, 6});
  const Floats x = RandomFloats(random, kSamples * input.size());
  const Floats dy = RandomFloats(random, kSamples * 6 * 7 * 5);
  const Floats first = RandomFloats(random, 3 * 2 * 3 * 2), second = RandomFloats(random, 6 * 5);
  const Floats bias = RandomFloats(random, 5);
  const kernels::KernelTable* kernels = kernels::Kernels();
  const Floats unused(kSamples * 6 * 7 * 6);
  const Floats between = depthwise.Run(kernels, 1, kShards, x, unused, {first}, {}).y;
  const LayerRun::Result upper =
      pointwise.Run(kernels, 1, kShards, between, dy, {second, bias}, {});
  const LayerRun::Result lower = depthwise.Run(kernels, 1, kShards, x, upper.dx, {first}, {});
  ForEachResult(separable, x, dy, {first, second, bias}, [&](const LayerRun::Result& r) {
    EXPECT_TRUE(SameBits(upper.y, r.y)) << "y";
    EXPECT_TRUE(SameBits(upper.infer, r.infer)) << "inference";
    EXPECT_TRUE(SameBits(lower.dx, r.dx)) << "dx";
    EXPECT_TRUE(SameBits(lower.gradients[0], r.gradients[0])) << "depthwise kernel";
    EXPECT_TRUE(SameBits(upper.gradients[0], r.gradients[1])) << "pointwise kernel";
    EXPECT_TRUE(SameBits(upper.gradients[1], r.gradients[2])) << "bias";
  });
}

// Rule 1 with groups and padding of a sequence: what conv2d computes on an image of height 1.
TEST(Specification, Conv1DAndDepthwiseConv2DAreConv2D) {
  std::mt19937 random(26);
  const auto expect_same = [&](const char* one, const Shape& shape, const char* two,
                               const Shape& image) {
    const LayerRun a(one, shape), b(two, image);
    const Floats x = RandomFloats(random, kSamples * shape.size());
    const Floats dy = RandomFloats(random, kSamples * a.layer->output_shape().size());
    std::vector<Floats> parameters;
    for (const TensorSpec& spec : a.layer->parameters()) {
      parameters.push_back(RandomFloats(random, ElementCount(spec.shape)));
    }
    const LayerRun::Result expected = b.Run(kernels::Kernels(), 1, kShards, x, dy, parameters, {});
    ForEachResult(a, x, dy, parameters, [&](const LayerRun::Result& r) {
      EXPECT_TRUE(SameBits(expected.y, r.y)) << one;
      EXPECT_TRUE(SameBits(expected.infer, r.infer)) << one;
      EXPECT_TRUE(SameBits(expected.dx, r.dx)) << one;
      for (size_t i = 0; i < parameters.size(); ++i) {
        EXPECT_TRUE(SameBits(expected.gradients[i], r.gradients[i])) << one << ", parameter " << i;
      }
    });
  };
  expect_same(R"({"conv1d": {"filters": 6, "kernel_size": 3, "groups": 2, "strides": 2,
                             "padding": "causal"}})",
              {9, 4},
              R"({"conv2d": {"filters": 6, "kernel_size": [1, 3], "groups": 2, "strides": [1, 2],
                             "padding": "explicit", "explicit_padding": [0, 0, 2, 0]}})",
              {1, 9, 4});
  expect_same(R"({"depthwise_conv2d": {"kernel_size": [3], "depth_multiplier": 2}})", {6, 5, 3},
              R"({"conv2d": {"kernel_size": [3], "filters": 6, "groups": 3}})", {6, 5, 3});
}

}  // namespace
}  // namespace lockstep
