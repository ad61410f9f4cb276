// Every BatchNormalization there is: against Keras 3 and PyTorch, and against what went wrong in
// others' implementations. Those tests compare with the textbook's formulas in double, two passes
// over the whole batch; a number names the thread that reports the bug.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/parallel/shards.h"
#include "tests/core/layers/layer_run.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

using Floats = LayerRun::Floats;

std::vector<int64_t> Shards(int64_t samples, int count) {
  std::vector<int64_t> begin;
  for (int v = 0; v <= count; ++v) begin.push_back(ShardBegin(samples, count, v));
  return begin;
}

Floats Normal(int64_t size, float mean, float deviation, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  Floats values(size);
  for (float& value : values) value = normal(random);
  return values;
}

class GoldenTest : public testing::TestWithParam<GoldenCase> {};

std::vector<Floats> Load(const GoldenCase& golden, const std::vector<TensorSpec>& specs) {
  std::vector<Floats> values;
  for (const TensorSpec& spec : specs) {
    EXPECT_TRUE(golden.has(spec.name)) << spec.name;
    EXPECT_EQ(golden[spec.name].shape, spec.shape) << spec.name;
    values.push_back(golden[spec.name].values);
  }
  return values;
}

TEST_P(GoldenTest, IsWhatThePeerComputes) {
  const GoldenCase& golden = GetParam();
  const std::vector<int64_t>& shape = golden["x"].shape;
  const LayerRun run(golden.spec, Shape({shape.begin() + 1, shape.end()}));
  std::vector<int> shard_counts = {1, 3, 8};
  if (golden.has("shards")) shard_counts = {static_cast<int>(golden["shards"].values[0])};
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int count : shard_counts) {
      SCOPED_TRACE(golden.name + ", " + (*table)->name + ", shards: " + std::to_string(count));
      const std::vector<Floats> parameters = Load(golden, run.layer->parameters());
      std::vector<Floats> buffers = Load(golden, run.layer->buffers());
      const auto step = [&](const std::string& x, const Floats& dy) {
        const LayerRun::Result result = run.Run(*table, 2, Shards(golden[x].shape[0], count),
                                                golden[x].values, dy, parameters, buffers);
        buffers = result.buffers;
        return result;
      };
      const LayerRun::Result first = step("x", golden["dy"].values);
      ExpectClose(first.y, golden["y"], "y");
      ExpectClose(first.dx, golden["dx"], "dx");
      for (size_t i = 0; i < parameters.size(); ++i) {
        const std::string name = "d" + run.layer->parameters()[i].name;
        if (golden.has(name)) ExpectClose(first.gradients[i], golden[name], name);
      }
      ExpectClose(buffers[0], golden["moving_mean_after_1"], "moving_mean after 1");
      ExpectClose(buffers[1], golden["moving_variance_after_1"], "moving_variance after 1");
      if (golden.has("y_inference_before")) {
        ExpectClose(first.infer, golden["y_inference_before"], "y in inference, before");
      }
      if (!golden.has("x_3")) continue;
      const auto zeros = [&](const std::string& x) { return Floats(golden[x].values.size()); };
      step("x_2", zeros("x_2"));
      const LayerRun::Result again = step("x_3", zeros("x_3"));
      ExpectClose(again.buffers[0], golden["moving_mean_after_3"], "moving_mean after 3");
      ExpectClose(again.buffers[1], golden["moving_variance_after_3"], "moving_variance after 3");
      if (buffers.size() > 2) {
        EXPECT_EQ(buffers[2], Floats{3}) << "num_batches_tracked";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(BatchNormalization, GoldenTest,
                         testing::ValuesIn(ReadGolden("batch_normalization_variants")),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', 'm');
                           return name;
                         });

// What a step of [samples, positions, channels] gives by the textbook.
struct Textbook {
  std::vector<double> y, dx, mean, variance, dgamma, dbeta;

  Textbook(const Floats& x, const Floats& dy, int64_t channels, double gamma, double beta,
           double epsilon)
      : y(x.size()),
        dx(x.size()),
        mean(channels),
        variance(channels),
        dgamma(channels),
        dbeta(channels) {
    const int64_t rows = std::ssize(x) / channels;
    const double n = static_cast<double>(rows);
    for (int64_t c = 0; c < channels; ++c) {
      const auto sum = [&](const std::function<double(int64_t)>& value) {
        double total = 0;
        for (int64_t i = c; i < std::ssize(x); i += channels) total += value(i);
        return total;
      };
      const double mu = mean[c] = sum([&](int64_t i) { return x[i]; }) / n;
      variance[c] = sum([&](int64_t i) { return (x[i] - mu) * (x[i] - mu); }) / n;
      const double inverse = 1 / std::sqrt(variance[c] + epsilon);
      dbeta[c] = sum([&](int64_t i) { return dy[i]; });
      dgamma[c] = sum([&](int64_t i) { return dy[i] * (x[i] - mu) * inverse; });
      for (int64_t i = c; i < std::ssize(x); i += channels) {
        const double normalized = (x[i] - mu) * inverse;
        y[i] = gamma * normalized + beta;
        dx[i] = gamma * inverse * (dy[i] - dbeta[c] / n - normalized * dgamma[c] / n);
      }
    }
  }
};

void ExpectNear(const Floats& got, const std::vector<double>& wanted, const std::string& what) {
  double largest = 0;
  for (double value : wanted) largest = std::max(largest, std::abs(value));
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], wanted[i], 1e-5 * largest + 1e-30) << what << ", element " << i;
  }
}

// One step with momentum 0, so that the moving values are the batch's: {y, dx, ...} and buffers as
// the textbook has them, finite, for the shards that begin at `shards`.
LayerRun::Result ExpectTextbook(const std::string& options, const Shape& shape, const Floats& x,
                                const std::vector<int64_t>& shards) {
  const LayerRun run(
      R"({"batch_normalization": {"momentum": 0, "convention": "pytorch")" + options + "}}", shape);
  const int64_t channels = shape.channels();
  const Floats dy = Normal(std::ssize(x), 0.5f, 2, 4);
  const bool plain = run.layer->parameters().empty();
  const std::vector<Floats> parameters =
      plain ? std::vector<Floats>()
            : std::vector<Floats>{Floats(channels, 1.5f), Floats(channels, -0.25f)};
  const LayerRun::Result result = run.Run(kernels::Kernels(), 2, shards, x, dy, parameters,
                                          {Floats(channels), Floats(channels)});
  Textbook wanted(x, dy, channels, plain ? 1 : 1.5, plain ? 0 : -0.25, 1e-5);
  ExpectNear(result.y, wanted.y, "y");
  ExpectNear(result.dx, wanted.dx, "dx");
  if (!plain) {
    ExpectNear(result.gradients[0], wanted.dgamma, "dgamma");
    ExpectNear(result.gradients[1], wanted.dbeta, "dbeta");
  }
  ExpectNear(result.buffers[0], wanted.mean, "moving_mean");
  const double n = static_cast<double>(std::ssize(x) / channels);
  for (double& variance : wanted.variance) variance *= n / std::max(1.0, n - 1);
  ExpectNear(result.buffers[1], wanted.variance, "moving_variance");
  return result;
}

// pytorch/pytorch#22192 (the running variance took one shard's count for all), #36382 and #36688
// (the backward sums were averaged by shard), NVIDIA/apex#387, horovod's TensorFlow version
// likewise.
TEST(BatchNormalizationBugs, ShardsOfDifferentSizes) {
  const std::vector<int64_t> shards = {0, 1, 4, 13, 15};
  ExpectTextbook("", {5}, Normal(15 * 5, 1, 2), shards);
  ExpectTextbook("", {3, 2, 5}, Normal(15 * 30, 1, 2), shards);
}

// pytorch/pytorch#74944 and #36530: an empty shard. NVIDIA/apex#262 and #287, pytorch#29626: one
// value a channel in a shard, while others have more.
TEST(BatchNormalizationBugs, EmptyShardsAndShardsOfOneValue) {
  const std::vector<int64_t> shards = {0, 0, 1, 1, 2, 6, 6};
  ExpectTextbook("", {5}, Normal(6 * 5, -1, 2), shards);
  ExpectTextbook("", {2, 2, 5}, Normal(6 * 20, -1, 2), shards);
  ExpectTextbook(R"(, "center": false, "scale": false)", {5}, Normal(6 * 5, -1, 2), shards);
}

// tensorflow/tensorflow#34062 and #48845: dividing by N - 1 = 0 made the moving variance NaN.
TEST(BatchNormalizationBugs, OneValueAChannel) {
  for (const Shape& shape : {Shape{3}, Shape{1, 1, 3}}) {
    for (const std::string convention : {"keras", "pytorch"}) {
      const LayerRun run(
          R"({"batch_normalization": {"momentum": 0, "convention": ")" + convention + "\"}}",
          shape);
      const Floats beta = {1, 2, 3};
      const LayerRun::Result result =
          run.Run(kernels::Kernels(), 1, {0, 1}, {5, -1e30f, 7}, {1, 1, 1}, {Floats(3, 2), beta},
                  {Floats(3), Floats(3)});
      EXPECT_EQ(result.y, beta);
      EXPECT_EQ(result.dx, Floats(3));
      EXPECT_EQ(result.buffers[0], (Floats{5, -1e30f, 7}));
      EXPECT_EQ(result.buffers[1], Floats(3));
    }
  }
}

// pytorch/pytorch#57077 (only the first 64 channels were right), NVIDIA/apex#1768 (numbers of
// channels that are no power of two, with large images), sony/nnabla-ext-cuda#457.
TEST(BatchNormalizationBugs, ManyChannelsThatAreNoPowerOfTwo) {
  for (int64_t channels : {67, 129, 200}) {
    ExpectTextbook("", {channels}, Normal(33 * channels, 3, 0.5f), Shards(33, 4));
    ExpectTextbook("", {13, 17, channels}, Normal(3 * 221 * channels, 3, 0.5f), Shards(3, 2));
  }
}

// tensorflow/tensorflow#3290 and keras-team/keras#18795: mean(x^2) - mean(x)^2 became negative.
TEST(BatchNormalizationBugs, MeanFarAboveTheDeviation) {
  for (float mean : {1e3f, -1e5f}) {
    const float deviation = std::abs(mean) * 1e-3f;
    const Floats x = Normal(301 * 4, mean, deviation);
    const LayerRun::Result result = ExpectTextbook("", {4}, x, Shards(301, 8));
    for (float variance : result.buffers[1]) EXPECT_GT(variance, 0.5f * deviation * deviation);
    ExpectTextbook("", {7, 43, 4}, x, {0, 1});
  }
}

// pytorch/pytorch#5410: a constant channel of large values did not become zero.
TEST(BatchNormalizationBugs, ConstantChannelsBecomeBeta) {
  for (float value : {0.1f, -1234.567f, 3.3e7f, 1e-30f}) {
    const LayerRun run(R"({"batch_normalization": {}})", {5, 7, 3});
    const Floats x(29 * 105, value);
    const Floats beta = {0.5f, 0, -2};
    const LayerRun::Result result =
        run.Run(kernels::Kernels(), 1, Shards(29, 8), x, Floats(x.size(), 1), {Floats(3, 1), beta},
                {Floats(3), Floats(3, 1)});
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(result.y[i], beta[i % 3]) << value;
  }
}

// pytorch/pytorch#62967 and #64039: other values for input in another order of memory. Here: the
// axis in the middle or in front gives the bits of the same values with the channels last.
TEST(BatchNormalizationBugs, AnyAxisGivesTheBitsOfTheLast) {
  constexpr int64_t kSamples = 6, kHeight = 9, kWidth = 17, kChannels = 5;
  const LayerRun last(R"({"batch_normalization": {}})", {kHeight, kWidth, kChannels});
  const Floats x = Normal(kSamples * kHeight * kWidth * kChannels, 2, 3);
  const Floats dy = Normal(std::ssize(x), 0, 1, 4);
  const std::vector<Floats> parameters = {Normal(kChannels, 1, 1), Normal(kChannels, 0, 1)};
  const std::vector<Floats> buffers = {Normal(kChannels, 1, 1), Floats(kChannels, 2)};
  const auto run = [&](const LayerRun& layer, const Floats& input, const Floats& gradient) {
    return layer.Run(kernels::Kernels(), 2, Shards(kSamples, 4), input, gradient, parameters,
                     buffers);
  };
  const LayerRun::Result expected = run(last, x, dy);
  for (int axis : {1, 2}) {
    // Of the channels-last position (sample, h, w) and channel.
    const auto moved = [&](const Floats& values) {
      Floats out(values.size());
      for (int64_t i = 0; i < std::ssize(values); ++i) {
        const int64_t c = i % kChannels, w = i / kChannels % kWidth;
        const int64_t h = i / kChannels / kWidth % kHeight, n = i / kChannels / kWidth / kHeight;
        const int64_t to = axis == 1 ? ((n * kChannels + c) * kHeight + h) * kWidth + w
                                     : ((n * kHeight + h) * kChannels + c) * kWidth + w;
        out[to] = values[i];
      }
      return out;
    };
    const LayerRun other(
        R"({"batch_normalization": {"axis": )" + std::to_string(axis) + "}}",
        axis == 1 ? Shape{kChannels, kHeight, kWidth} : Shape{kHeight, kChannels, kWidth});
    const LayerRun::Result result = run(other, moved(x), moved(dy));
    EXPECT_TRUE(SameBits(moved(expected.y), result.y));
    EXPECT_TRUE(SameBits(moved(expected.dx), result.dx));
    EXPECT_TRUE(SameBits(moved(expected.infer), result.infer));
    for (int i : {0, 1}) {
      EXPECT_TRUE(SameBits(expected.gradients[i], result.gradients[i]));
      EXPECT_TRUE(SameBits(expected.buffers[i], result.buffers[i]));
    }
  }
}

// tensorflow/tensorflow#55545, keras-team/keras#8982, #9028 and #10443: whether the moving variance
// is unbiased depended on the shape. It depends on the convention alone.
TEST(BatchNormalizationBugs, TheConventionAloneSaysWhetherTheVarianceIsUnbiased) {
  const Floats x = Normal(8 * 3, 0, 1);
  const auto variance = [&](const std::string& convention, const Shape& shape) {
    const LayerRun run(
        R"({"batch_normalization": {"momentum": 0, "convention": ")" + convention + "\"}}", shape);
    return run
        .Run(kernels::Kernels(), 1, {0, std::ssize(x) / shape.size()}, x, x,
             {Floats(3, 1), Floats(3)}, {Floats(3), Floats(3)})
        .buffers[1];
  };
  for (const Shape& shape : {Shape{3}, Shape{2, 3}, Shape{2, 2, 3}}) {
    const Floats keras = variance("keras", shape);
    const Floats pytorch = variance("pytorch", shape);
    for (int c : {0, 1, 2}) EXPECT_NEAR(pytorch[c], keras[c] * 8 / 7, 1e-6 * keras[c]);
  }
}

TEST(BatchNormalizationGroups, AllShardsInOneGroupIsTheWholeBatch) {
  const Floats x = Normal(37 * 12, 1, 2);
  const Floats dy = Normal(37 * 12, 0, 1, 4);
  for (const Shape& shape : {Shape{12}, Shape{2, 2, 3}}) {
    const int64_t c = shape.channels();
    const auto run = [&](const std::string& options) {
      return LayerRun(R"({"batch_normalization": {)" + options + "}}", shape)
          .Run(kernels::Kernels(), 2, Shards(37, 8), x, dy, {Normal(c, 1, 1), Normal(c, 0, 1)},
               {Normal(c, 0, 1), Floats(c, 1)});
    };
    const LayerRun::Result whole = run("");
    const LayerRun::Result group = run(R"("group_shards": 8)");
    EXPECT_TRUE(SameBits(whole.y, group.y));
    EXPECT_TRUE(SameBits(whole.dx, group.dx));
    for (int i : {0, 1}) {
      EXPECT_TRUE(SameBits(whole.gradients[i], group.gradients[i]));
      EXPECT_TRUE(SameBits(whole.buffers[i], group.buffers[i]));
    }
    EXPECT_FALSE(SameBits(whole.y, run(R"("group_shards": 4)").y));
  }
}

}  // namespace
}  // namespace lockstep
