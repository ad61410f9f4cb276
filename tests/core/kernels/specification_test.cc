// Layers and kernels equal the contract's scalar loops (specification.h) bit for bit: on every
// instruction set of this CPU, for any number of threads, any shards and awkward shapes.

#include "tests/core/kernels/specification.h"

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using specification::Bounds;
using specification::Chain;
using specification::Floats;

Floats RandomFloats(std::mt19937& random, int64_t n, float mean = 0.0f) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = mean + uniform(random);
  return values;
}

// A batch of `samples` cut anywhere: shards may be empty.
Bounds RandomShards(std::mt19937& random, int64_t samples) {
  Bounds bounds = {0, samples};
  for (int cuts = static_cast<int>(random() % 9); cuts > 0; --cuts) {
    bounds.push_back(static_cast<int64_t>(random() % (samples + 1)));
  }
  std::sort(bounds.begin(), bounds.end());
  return bounds;
}

std::vector<Floats> RandomTensors(std::mt19937& random, const std::vector<TensorSpec>& specs,
                                  float mean = 0.0f) {
  std::vector<Floats> tensors;
  for (const TensorSpec& spec : specs) {
    int64_t size = 1;
    for (int64_t dim : spec.shape) size *= dim;
    tensors.push_back(RandomFloats(random, size, mean));
  }
  return tensors;
}

// Runs body(kernels, threads) for every instruction set and several numbers of threads.
template <typename Body>
void ForEachMachine(Body body) {
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int threads : {1, 3}) {
      SCOPED_TRACE(absl::StrCat((*table)->name, ", ", threads, " threads"));
      body(*table, threads);
    }
  }
}

TEST(Specification, ThisMachineRunsSomeKernels) { ASSERT_NE(kernels::Kernels(), nullptr); }

TEST(Specification, Dense) {
  std::mt19937 random(1);
  for (const auto& sizes : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1},
                            {784, 64, 40},
                            {64, 10, 129},
                            {385, 3, 7},
                            {769, 100, 33},
                            {13, 131, 500},
                            {5, 17, 901}}) {
    const int64_t in = std::get<0>(sizes), units = std::get<1>(sizes);
    const int64_t samples = std::get<2>(sizes);
    const bool bias = random() % 2 == 0;
    const LayerRun run(absl::StrCat(R"({"dense": {"units": )", units, R"(, "activation": "relu",)",
                                    R"("use_bias": )", bias ? "true" : "false", "}}"),
                       {in});
    const Floats x = RandomFloats(random, samples * in);
    const Floats dy = RandomFloats(random, samples * units);
    const std::vector<Floats> p = RandomTensors(random, run.layer->parameters());
    const Bounds shards = RandomShards(random, samples);

    Floats y(samples * units), g(samples * units), dx(x.size()), dw(in * units), db(units);
    for (int64_t n = 0; n < samples; ++n) {
      for (int64_t j = 0; j < units; ++j) {
        Chain chain(specification::kDenseChunk);
        for (int64_t k = 0; k < in; ++k) chain.Add(x[n * in + k], p[0][k * units + j]);
        float value = chain.Finish();
        if (bias) value += p[1][j];
        y[n * units + j] = specification::Relu(value);
        g[n * units + j] = y[n * units + j] > 0 ? dy[n * units + j] : 0.0f;
      }
      for (int64_t i = 0; i < in; ++i) {
        Chain chain(specification::kDenseChunk);
        for (int64_t j = 0; j < units; ++j) chain.Add(g[n * units + j], p[0][i * units + j]);
        dx[n * in + i] = chain.Finish();
      }
    }
    for (int64_t j = 0; j < units; ++j) {
      for (int64_t i = 0; i < in; ++i) {
        dw[i * units + j] = specification::WeightGradientElement(
            shards, specification::kDenseChunk,
            [&](int64_t n, Chain& chain) { chain.Add(x[n * in + i], g[n * units + j]); });
      }
      db[j] = static_cast<float>(specification::BatchSum(
          shards, 1, [&](int64_t n, float s) { return s + g[n * units + j]; }));
    }
    SCOPED_TRACE(
        absl::StrCat(in, " -> ", units, ", ", samples, " samples, ", shards.size() - 1, " shards"));
    ForEachMachine([&](const kernels::KernelTable* kernels, int threads) {
      const LayerRun::Result r = run.Run(kernels, threads, shards, x, dy, p, {});
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(y, r.infer)) << "inference";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
      EXPECT_TRUE(SameBits(dw, r.gradients[0])) << "kernel gradient";
      if (bias) {
        EXPECT_TRUE(SameBits(db, r.gradients[1])) << "bias gradient";
      }
    });
  }
}

struct ConvCase {
  int64_t h, w, in, filters, kh, kw, sh, sw, samples;
  bool same;
  int64_t dh = 1, dw = 1, groups = 1;
};

// Output size and padding before, as Keras defines them.
std::pair<int64_t, int64_t> OutAndPad(int64_t in, int64_t taps, int64_t dilation, int64_t stride,
                                      bool same) {
  const int64_t kernel = (taps - 1) * dilation + 1;
  if (!same) return {(in - kernel) / stride + 1, 0};
  const int64_t out = (in + stride - 1) / stride;
  return {out, std::max<int64_t>(0, (out - 1) * stride + kernel - in) / 2};
}

TEST(Specification, Conv2D) {
  std::mt19937 random(2);
  const ConvCase cases[] = {
      {5, 5, 1, 1, 3, 3, 1, 1, 3, false},
      {28, 28, 1, 32, 3, 3, 1, 1, 2, false},
      {13, 13, 32, 64, 3, 3, 1, 1, 7, false},
      {8, 8, 65, 7, 3, 3, 1, 1, 3, true},
      {9, 7, 3, 16, 5, 3, 2, 2, 4, true},
      {8, 8, 16, 33, 3, 3, 2, 2, 5, true},
      {6, 6, 5, 9, 1, 1, 1, 1, 40, false},
      {7, 9, 4, 5, 2, 4, 3, 1, 6, false},
      {4, 4, 2, 3, 1, 1, 3, 3, 5, true},
      {3, 3, 70, 2, 3, 3, 1, 1, 600, false},
      {9, 8, 6, 5, 3, 2, 1, 2, 3, true, 2, 3},
      {8, 9, 12, 20, 3, 3, 2, 1, 5, true, 1, 1, 4},
      {7, 7, 6, 9, 3, 3, 1, 1, 4, false, 2, 1, 3},
      {9, 9, 37, 37, 3, 3, 1, 1, 5, true, 1, 1, 37},
      {9, 9, 16, 16, 5, 3, 2, 2, 5, true, 2, 2, 16},
      {6, 6, 5, 10, 3, 3, 1, 1, 5, true, 1, 1, 5},
  };
  for (const ConvCase& c : cases) {
    const LayerRun run(
        absl::StrCat(R"({"conv2d": {"filters": )", c.filters, R"(, "kernel_size": [)", c.kh, ",",
                     c.kw, R"(], "strides": [)", c.sh, ",", c.sw, R"(], "padding": ")",
                     c.same ? "same" : "valid", R"(", "dilation_rate": [)", c.dh, ",", c.dw,
                     R"(], "groups": )", c.groups, "}}"),
        {c.h, c.w, c.in});
    // Not structured bindings: clang 14 cannot capture those in lambdas.
    const std::pair<int64_t, int64_t> height = OutAndPad(c.h, c.kh, c.dh, c.sh, c.same);
    const std::pair<int64_t, int64_t> width = OutAndPad(c.w, c.kw, c.dw, c.sw, c.same);
    const int64_t oh = height.first, pad_h = height.second;
    const int64_t ow = width.first, pad_w = width.second;
    const int64_t positions = oh * ow;
    const int64_t group_in = c.in / c.groups, group_filters = c.filters / c.groups;
    ASSERT_EQ(run.layer->output_shape(), (Shape{oh, ow, c.filters}));
    const Floats x = RandomFloats(random, c.samples * c.h * c.w * c.in);
    const Floats dy = RandomFloats(random, c.samples * positions * c.filters);
    const std::vector<Floats> p = RandomTensors(random, run.layer->parameters());
    const Bounds shards = RandomShards(random, c.samples);

    const auto x_at = [&](int64_t n, int64_t i, int64_t j, int64_t k) {
      return i < 0 || j < 0 || i >= c.h || j >= c.w ? 0.0f
                                                    : x[((n * c.h + i) * c.w + j) * c.in + k];
    };
    const auto w_at = [&](int64_t i, int64_t j, int64_t k, int64_t f) {
      return p[0][((i * c.kw + j) * group_in + k) * c.filters + f];
    };
    const auto dy_at = [&](int64_t n, int64_t i, int64_t j, int64_t f) {
      return i < 0 || j < 0 || i >= oh || j >= ow ? 0.0f
                                                  : dy[((n * oh + i) * ow + j) * c.filters + f];
    };
    Floats y, dx, dw, db;
    for (int64_t n = 0; n < c.samples; ++n) {
      for (int64_t i = 0; i < oh; ++i) {
        for (int64_t j = 0; j < ow; ++j) {
          for (int64_t f = 0; f < c.filters; ++f) {
            Chain chain(specification::kConvChunk);
            for (int64_t a = 0; a < c.kh; ++a) {
              for (int64_t b = 0; b < c.kw; ++b) {
                for (int64_t k = 0; k < group_in; ++k) {
                  chain.Add(x_at(n, i * c.sh + a * c.dh - pad_h, j * c.sw + b * c.dw - pad_w,
                                 f / group_filters * group_in + k),
                            w_at(a, b, k, f));
                }
              }
            }
            y.push_back(chain.Finish() + p[1][f]);
          }
        }
      }
      for (int64_t i = 0; i < c.h; ++i) {
        for (int64_t j = 0; j < c.w; ++j) {
          for (int64_t k = 0; k < c.in; ++k) {
            Chain chain(specification::kConvChunk);
            for (int64_t a = 0; a < c.kh; ++a) {
              for (int64_t b = 0; b < c.kw; ++b) {
                const int64_t row = i + pad_h - a * c.dh, column = j + pad_w - b * c.dw;
                if (row % c.sh != 0 || column % c.sw != 0) continue;
                for (int64_t f = k / group_in * group_filters;
                     f < (k / group_in + 1) * group_filters; ++f) {
                  chain.Add(dy_at(n, row / c.sh, column / c.sw, f), w_at(a, b, k % group_in, f));
                }
              }
            }
            dx.push_back(chain.Finish());
          }
        }
      }
    }
    int64_t chunk = 1;
    while (chunk * positions < specification::kGradientRows) chunk *= 2;
    for (int64_t a = 0; a < c.kh; ++a) {
      for (int64_t b = 0; b < c.kw; ++b) {
        for (int64_t k = 0; k < group_in; ++k) {
          for (int64_t f = 0; f < c.filters; ++f) {
            dw.push_back(
                specification::WeightGradientElement(shards, chunk, [&](int64_t n, Chain& chain) {
                  for (int64_t i = 0; i < oh; ++i) {
                    for (int64_t j = 0; j < ow; ++j) {
                      chain.Add(x_at(n, i * c.sh + a * c.dh - pad_h, j * c.sw + b * c.dw - pad_w,
                                     f / group_filters * group_in + k),
                                dy_at(n, i, j, f));
                    }
                  }
                }));
          }
        }
      }
    }
    for (int64_t f = 0; f < c.filters; ++f) {
      db.push_back(static_cast<float>(specification::BatchSum(
          shards, positions, [&](int64_t r, float s) { return s + dy[r * c.filters + f]; })));
    }
    SCOPED_TRACE(absl::StrCat(c.h, "x", c.w, "x", c.in, " -> ", c.filters, ", kernel ", c.kh, "x",
                              c.kw, ", stride ", c.sh, "x", c.sw, c.same ? ", same" : ", valid",
                              ", dilation ", c.dh, "x", c.dw, ", ", c.groups, " groups"));
    ForEachMachine([&](const kernels::KernelTable* kernels, int threads) {
      const LayerRun::Result r = run.Run(kernels, threads, shards, x, dy, p, {});
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(y, r.infer)) << "inference";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
      EXPECT_TRUE(SameBits(dw, r.gradients[0])) << "kernel gradient";
      EXPECT_TRUE(SameBits(db, r.gradients[1])) << "bias gradient";
    });
  }
}

TEST(Specification, BatchNormalization) {
  std::mt19937 random(3);
  for (auto [shape, samples, mean, relu] :
       {std::tuple<Shape, int64_t, float, bool>{{1}, 1, 0.0f, false},
        {{64}, 129, 0.0f, false},
        {{10}, 700, 100.0f, false},
        {{10}, 300, 1.0f, true},
        {{5, 5, 33}, 9, -3.0f, false},
        {{6, 5, 37}, 9, -3.0f, true},
        {{13, 13, 3}, 5, 1000.0f, false},
        {{12, 12, 64}, 5, 10.0f, true}}) {
    LayerRun run(R"({"batch_normalization": {"momentum": 0.9}})", shape);
    run.relu = relu;
    const int64_t channels = shape.channels();
    const int64_t positions = shape.positions();
    const Floats x = RandomFloats(random, samples * shape.size(), mean);
    const Floats dy_after = RandomFloats(random, samples * shape.size());
    const std::vector<Floats> p = RandomTensors(random, run.layer->parameters());
    const std::vector<Floats> b = RandomTensors(random, run.layer->buffers(), 2.0f);
    const Bounds shards = RandomShards(random, samples);
    const auto count = static_cast<double>(samples * positions);
    const double epsilon = 1e-3;

    Floats y(x.size()), infer(x.size()), dy = dy_after, dx(x.size());
    std::vector<Floats> gradients(2, Floats(channels));
    std::vector<Floats> buffers(2, Floats(channels));
    for (int64_t c = 0; c < channels; ++c) {
      const specification::Moments moments =
          specification::BatchMoments(x, channels, c, shards, positions);
      ASSERT_EQ(moments.n, count);
      const double variance = moments.m2 / count;
      buffers[0][c] = static_cast<float>(0.9 * b[0][c] + (1.0 - 0.9) * moments.mean);
      buffers[1][c] = static_cast<float>(0.9 * b[1][c] + (1.0 - 0.9) * variance);
      const auto apply = [&](double mu, double var, Floats& out) {
        const float m = static_cast<float>(mu);
        const float a = static_cast<float>(p[0][c] / std::sqrt(var + epsilon));
        const float beta = static_cast<float>(p[1][c] + (m - mu) * a);
        for (size_t i = c; i < x.size(); i += channels) {
          out[i] = std::fma(x[i] - m, a, beta);
          if (relu && 0.0f > out[i]) out[i] = 0.0f;
        }
      };
      apply(moments.mean, variance, y);
      apply(b[0][c], b[1][c], infer);
      for (size_t i = c; i < x.size(); i += channels) {
        if (relu && !(y[i] > 0)) dy[i] = 0.0f;
      }

      const float m = static_cast<float>(moments.mean);
      const double s1 = specification::BatchSum(
          shards, positions, [&](int64_t r, float s) { return s + dy[r * channels + c]; });
      const double s2m = specification::BatchSum(shards, positions, [&](int64_t r, float s) {
        return std::fma(dy[r * channels + c], x[r * channels + c] - m, s);
      });
      const double s2 = s2m + (m - moments.mean) * s1;
      const double inverse_deviation = 1.0 / std::sqrt(variance + epsilon);
      const double a = p[0][c] * inverse_deviation;
      const double slope = -a * (1.0 / (variance + epsilon)) * s2 / count;
      const float k0 = static_cast<float>(slope * (m - moments.mean) - a * s1 / count);
      const float k1 = static_cast<float>(a);
      const float k2 = static_cast<float>(slope);
      for (size_t i = c; i < x.size(); i += channels) {
        dx[i] = std::fma(x[i] - m, k2, std::fma(dy[i], k1, k0));
      }
      gradients[0][c] = static_cast<float>(s2 * inverse_deviation);
      gradients[1][c] = static_cast<float>(s1);
    }
    SCOPED_TRACE(absl::StrCat(positions, " positions, ", channels, " channels, ", samples,
                              " samples, ", shards.size() - 1, " shards", relu ? ", ReLU" : ""));
    ForEachMachine([&](const kernels::KernelTable* kernels, int threads) {
      const LayerRun::Result r = run.Run(kernels, threads, shards, x, dy_after, p, b);
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(infer, r.infer)) << "inference";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
      for (int i : {0, 1}) {
        EXPECT_TRUE(SameBits(gradients[i], r.gradients[i])) << "gradient of " << i;
        EXPECT_TRUE(SameBits(buffers[i], r.buffers[i])) << "buffer " << i;
      }
    });
  }
}

TEST(Specification, Activations) {
  std::mt19937 random(4);
  const int64_t n = 1003;
  Floats x = RandomFloats(random, n);
  for (float& v : x) v *= std::ldexp(1.0f, static_cast<int>(random() % 16) - 8);
  const float special[] = {0.0f, -0.0f, 100.0f, -100.0f, INFINITY, -INFINITY, NAN, 1e-40f, 0.625f};
  std::copy(std::begin(special), std::end(special), x.begin() + 17);
  using kernels::Activation;
  ForEachMachine([&](const kernels::KernelTable* kernels, int) {
    for (auto [activation, f] : {std::pair{Activation::kRelu, &specification::Relu},
                                 {Activation::kSigmoid, &specification::Sigmoid},
                                 {Activation::kTanh, &specification::Tanh}}) {
      Floats expected(n);
      std::transform(x.begin(), x.end(), expected.begin(), f);
      Floats y = x;
      // From an odd address on, so that vectors start anywhere.
      kernels->activate({activation}, 1, n - 1, x.data() + 1, y.data() + 1);
      kernels->activate({activation}, 1, 1, y.data(), y.data());
      EXPECT_TRUE(SameBits(expected, y)) << static_cast<int>(activation);
    }
    for (auto [rows, columns] :
         {std::pair<int64_t, int64_t>{1, 10}, {9, 59}, {37, 17}, {90, 1}, {7, 130}}) {
      Floats y(x.begin() + 40, x.begin() + 40 + rows * columns);
      Floats expected;
      for (int64_t r = 0; r < rows; ++r) {
        const Floats row = specification::Softmax(y.data() + r * columns, columns);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      kernels->activate({Activation::kSoftmax}, rows, columns, y.data(), y.data());
      EXPECT_TRUE(SameBits(expected, y)) << "softmax over " << columns;
    }
  });
}

TEST(Specification, ExpAndTanhAreAccurate) {
  for (float x = -86.0f; x < 86.0f; x += 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(specification::Exp(x) / exact, 1.0, 1.2e-7) << x;
  }
  for (float x = -10.0f; x < 10.0f; x += 0.0011f) {
    ASSERT_NEAR(specification::Tanh(x), std::tanh(static_cast<double>(x)), 1.5e-7) << x;
  }
}

TEST(Specification, MaxPoolingTakesTheFirstOfEqualsAndPassesNan) {
  std::mt19937 random(5);
  for (const auto& window : {std::pair{2, 2}, {3, 2}, {3, 1}, {1, 2}}) {
    const int pool = window.first, stride = window.second;
    const int64_t h = 7, w = 9, c = 19, samples = 3;
    const LayerRun run(absl::StrCat(R"({"max_pooling2d": {"pool_size": [)", pool,
                                    R"(], "strides": [)", stride, "]}}"),
                       {h, w, c});
    const int64_t oh = (h - pool) / stride + 1, ow = (w - pool) / stride + 1;
    Floats x(samples * h * w * c);
    for (float& v : x) v = static_cast<float>(random() % 4);  // many ties
    x[100] = NAN;
    const Floats dy = RandomFloats(random, samples * oh * ow * c);
    Floats y(dy.size()), dx(x.size());
    for (int64_t n = 0; n < samples; ++n) {
      for (int64_t i = 0; i < oh; ++i) {
        for (int64_t j = 0; j < ow; ++j) {
          for (int64_t k = 0; k < c; ++k) {
            const auto index = [&](int64_t a, int64_t b) {
              return ((n * h + i * stride + a) * w + j * stride + b) * c + k;
            };
            int64_t best = index(0, 0);
            for (int64_t a = 0; a < pool; ++a) {
              for (int64_t b = 0; b < pool; ++b) {
                const float v = x[index(a, b)];
                if (v > x[best] || std::isnan(v)) best = index(a, b);
              }
            }
            const int64_t out = ((n * oh + i) * ow + j) * c + k;
            y[out] = x[best];
            dx[best] += dy[out];
          }
        }
      }
    }
    ForEachMachine([&](const kernels::KernelTable* kernels, int threads) {
      const LayerRun::Result r = run.Run(kernels, threads, {0, samples}, x, dy, {}, {});
      EXPECT_TRUE(SameBits(y, r.y)) << "y";
      EXPECT_TRUE(SameBits(dx, r.dx)) << "dx";
    });
  }
}

}  // namespace
}  // namespace lockstep
