// What follows from a model's spec: names, defaults, shapes, where tensors lie, how they start.

#include "core/network/network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

Network BuildOrDie(v1::ModelSpec* spec) {
  auto network = Network::Build(spec);
  EXPECT_TRUE(network.ok()) << network.status();
  return *std::move(network);
}

Network BuildJson(const std::string& json) {
  auto spec = ParseJson<v1::ModelSpec>(json);
  return BuildOrDie(&spec);
}

const NetworkTensor& Find(std::span<const NetworkTensor> tensors, const std::string& name) {
  for (const NetworkTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors[0];
}

// What keras.Sequential([...]) calls these layers; only those without a name of their own count.
TEST(NetworkTest, DefaultNamesAreKeras) {
  const Network network = BuildJson(R"({"inputs":[{"shape":[16,16,1]}],"layers":[
      {"conv2d":{"filters":2,"kernelSize":[3]}}, {"batchNormalization":{}}, {"maxPooling2d":{}},
      {"conv2d":{"filters":2,"kernelSize":[3]}}, {"batchNormalization":{}}, {"maxPooling2d":{}},
      {"flatten":{}}, {"name":"hidden","dense":{"units":3}}, {"dense":{"units":3}},
      {"activation":{"activation":"relu"}}, {"dropout":{}}, {"dropout":{}}, {"dropout":{}}]})");
  std::vector<std::string> names;
  for (const Network::Node& node : network.nodes()) names.push_back(node.name);
  EXPECT_EQ(names, (std::vector<std::string>{"conv2d", "batch_normalization", "max_pooling2d",
                                             "conv2d_1", "batch_normalization_1", "max_pooling2d_1",
                                             "flatten", "hidden", "dense", "activation", "dropout",
                                             "dropout_1", "dropout_2"}));
}

// A stored spec says what was trained, whatever the defaults of a later version.
TEST(NetworkTest, DefaultsAreWrittenIntoTheSpec) {
  auto spec = ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[8,6,1]}],"layers":[
      {"conv2d":{"filters":2,"kernelSize":[3]}}, {"batchNormalization":{}},
      {"maxPooling2d":{"poolSize":[3,2]}}, {"flatten":{}},
      {"dense":{"units":3,"kernelInitializer":{"randomUniform":{}}}},
      {"rescaling":{}}, {"layerNormalization":{}},
      {"groupNormalization":{"groups":3,"gammaInitializer":{"seed":4}}},
      {"activation":{"activation":"leaky_relu"}}, {"activation":{"activation":"elu"}},
      {"dense":{"units":2,"kernelInitializer":{"varianceScaling":{}},
                "biasInitializer":{"randomNormal":{}}}},
      {"dense":{"units":2,"useBias":false,"kernelInitializer":{"orthogonal":{},"seed":9}}}]})");
  BuildOrDie(&spec);
  const auto expected = ParseJson<v1::ModelSpec>(R"({
      "inputs":[{"shape":[8,6,1],"scale":1,"name":"input"}],"layers":[
      {"name":"conv2d","trainable":true,"conv2d":{"filters":2,"kernelSize":[3,3],"strides":[1,1],"padding":"valid",
        "activation":"linear","useBias":true,"kernelInitializer":{"glorotUniform":{}},
        "biasInitializer":{"zeros":{}},"dilationRate":[1,1],"groups":1}},
      {"name":"batch_normalization","trainable":true,"batchNormalization":{"momentum":0.99,
        "epsilon":0.001,"axis":-1,"convention":"keras","center":true,"scale":true,"betaInitializer":{"zeros":{}},"gammaInitializer":{"ones":{}},
        "movingMeanInitializer":{"zeros":{}},"movingVarianceInitializer":{"ones":{}}}},
      {"name":"max_pooling2d","trainable":true,"maxPooling2d":{"poolSize":[3,2],"strides":[3,2],
        "padding":"valid"}},
      {"name":"flatten","trainable":true,"flatten":{}},
      {"name":"dense","trainable":true,"dense":{"units":3,"activation":"linear","useBias":true,
        "kernelInitializer":{"randomUniform":{"minval":-0.05,"maxval":0.05}},
        "biasInitializer":{"zeros":{}}}},
      {"name":"rescaling","trainable":true,"rescaling":{"scale":1}},
      {"name":"layer_normalization","trainable":true,"layerNormalization":{"axis":[-1],"epsilon":0.001,
        "center":true,"scale":true,"betaInitializer":{"zeros":{}},"gammaInitializer":{"ones":{}}}},
      {"name":"group_normalization","trainable":true,"groupNormalization":{"groups":3,"epsilon":0.001,
        "center":true,"scale":true,"betaInitializer":{"zeros":{}},
        "gammaInitializer":{"ones":{},"seed":4}}},
      {"name":"activation","trainable":true,"activation":{"activation":"leaky_relu","negativeSlope":0.2}},
      {"name":"activation_1","trainable":true,"activation":{"activation":"elu","alpha":1}},
      {"name":"dense_1","trainable":true,"dense":{"units":2,"activation":"linear","useBias":true,
        "kernelInitializer":{"varianceScaling":{"scale":1,"mode":"fan_in",
                                                "distribution":"truncated_normal"}},
        "biasInitializer":{"randomNormal":{"stddev":0.05}}}},
      {"name":"dense_2","trainable":true,"dense":{"units":2,"activation":"linear","useBias":false,
        "kernelInitializer":{"orthogonal":{"gain":1},"seed":9},
        "biasInitializer":{"zeros":{}}}}],"outputs":["dense_2"]})");
  EXPECT_EQ(spec.DebugString(), expected.DebugString());
  BuildOrDie(&spec);
  EXPECT_EQ(spec.DebugString(), expected.DebugString()) << "a spec with defaults changed";
}

TEST(NetworkTest, OutputShapesAreKeras) {
  const struct {
    std::string layer;
    std::vector<int64_t> shape;  // of the output for [28, 15, 3]
  } table[] = {
      {R"("conv2d":{"filters":4,"kernelSize":[3]})", {26, 13, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[3],"padding":"same"})", {28, 15, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[2],"padding":"same"})", {28, 15, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[3],"strides":[2]})", {13, 7, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[3],"strides":[2],"padding":"same"})", {14, 8, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[1],"strides":[3],"padding":"same"})", {10, 5, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[28,15]})", {1, 1, 4}},
      {R"("conv2d":{"filters":4,"kernelSize":[5,1],"strides":[1,4]})", {24, 4, 4}},
      {R"("conv2d":{"filters":1,"kernelSize":[3],"strides":[100]})", {1, 1, 1}},
      {R"("conv2d":{"filters":4,"kernelSize":[3],"dilationRate":[2,5]})", {24, 5, 4}},
      {R"("conv2d":{"filters":3,"kernelSize":[3],"groups":3,"strides":[2]})", {13, 7, 3}},
      {R"("globalAveragePooling2d":{})", {3}},
      {R"("maxPooling2d":{})", {14, 7, 3}},
      {R"("maxPooling2d":{"poolSize":[3],"strides":[2]})", {13, 7, 3}},
      {R"("maxPooling2d":{"poolSize":[28,15]})", {1, 1, 3}},
      {R"("flatten":{})", {28 * 15 * 3}},
      {R"("dropout":{"rate":0.5})", {28, 15, 3}},
      {R"("dense":{"units":7})", {28, 15, 7}},
      {R"("rescaling":{})", {28, 15, 3}},
      {R"("layerNormalization":{"axis":[2,3]})", {28, 15, 3}},
      {R"("groupNormalization":{"groups":-1})", {28, 15, 3}},
      {R"("normalization":{})", {28, 15, 3}},
      {R"("batchNormalization":{})", {28, 15, 3}},
      {R"("activation":{"activation":"softmax"})", {28, 15, 3}},
  };
  for (const auto& row : table) {
    const Network network =
        BuildJson(R"({"inputs":[{"shape":[28,15,3]}],"layers":[{)" + row.layer + "}]}");
    EXPECT_EQ(network.output(), Shape(row.shape)) << row.layer;
  }
}

// Every field of a spec that regularizes reaches the tensor that it is about, and no other.
TEST(NetworkTest, RegularizersBelongToTheirTensors) {
  const Network network = BuildJson(R"({"inputs":[{"shape":[6,6,4]}],"layers":[
      {"name":"conv2d","conv2d":{"filters":4,"kernelSize":[1],"kernelRegularizer":{"l1":1},
                                 "biasRegularizer":{"l1":2}}},
      {"name":"batch","batchNormalization":{"gammaRegularizer":{"l1":3},
                                            "betaRegularizer":{"l1":4}}},
      {"name":"depthwise","depthwiseConv2d":{"kernelSize":[1],"depthwiseRegularizer":{"l1":5},
                                             "biasRegularizer":{"l1":6}}},
      {"name":"separable","separableConv2d":{"filters":4,"kernelSize":[1],
          "depthwiseRegularizer":{"l1":7},"pointwiseRegularizer":{"l1":8},
          "biasRegularizer":{"l1":9}}},
      {"name":"group","groupNormalization":{"groups":2,"gammaRegularizer":{"l1":10},
                                            "betaRegularizer":{"l1":11}}},
      {"reshape":{"targetShape":[36,4]}},
      {"name":"conv1d","conv1d":{"filters":4,"kernelSize":1,"kernelRegularizer":{"l1":12},
                                 "biasRegularizer":{"l1":13}}},
      {"name":"layer","layerNormalization":{"gammaRegularizer":{"l1":14},
                                            "betaRegularizer":{"l1":15}}},
      {"name":"dense","dense":{"units":2,"kernelRegularizer":{"l1":16},
                               "biasRegularizer":{"l1":17}}}]})");
  const char* const names[] = {"conv2d.kernel",
                               "conv2d.bias",
                               "batch.gamma",
                               "batch.beta",
                               "depthwise.kernel",
                               "depthwise.bias",
                               "separable.depthwise_kernel",
                               "separable.pointwise_kernel",
                               "separable.bias",
                               "group.gamma",
                               "group.beta",
                               "conv1d.kernel",
                               "conv1d.bias",
                               "layer.gamma",
                               "layer.beta",
                               "dense.kernel",
                               "dense.bias"};
  ASSERT_EQ(network.parameters().size(), std::size(names));
  for (size_t i = 0; i < std::size(names); ++i) {
    const v1::Regularizer& r = Find(network.parameters(), names[i]).spec.regularizer;
    EXPECT_EQ(r.l1(), static_cast<float>(i + 1)) << names[i];
    EXPECT_EQ(r.l2(), 0.0f) << names[i];
  }
}

// House rule 2: parameters and buffers are two flat vectors, each tensor on a cache line.
TEST(NetworkTest, TensorsLieInFlatAlignedVectors) {
  const Network network = BuildJson(R"({"inputs":[{"shape":[5]}],"layers":[
      {"dense":{"units":3}}, {"batchNormalization":{}}, {"batchNormalization":{"scale":false}},
      {"dense":{"units":2,"useBias":false}}]})");
  std::vector<std::string> names;
  const auto check = [&](std::span<const NetworkTensor> tensors, int64_t size) {
    int64_t end = 0;
    for (const NetworkTensor& tensor : tensors) {
      names.push_back(tensor.name);
      EXPECT_EQ(tensor.offset, end);
      end = (tensor.offset + tensor.size + 15) / 16 * 16;
    }
    EXPECT_EQ(size, end);
  };
  check(network.parameters(), network.parameters_size());
  check(network.buffers(), network.buffers_size());
  EXPECT_EQ(names,
            (std::vector<std::string>{
                "dense.kernel", "dense.bias", "batch_normalization.gamma",
                "batch_normalization.beta", "batch_normalization_1.beta", "dense_1.kernel",
                "batch_normalization.moving_mean", "batch_normalization.moving_variance",
                "batch_normalization_1.moving_mean", "batch_normalization_1.moving_variance"}));
}

struct Values {
  Values(const Network& network, uint64_t seed)
      : parameters(network.parameters_size()), buffers(network.buffers_size()) {
    network.Initialize(seed, parameters, buffers);
  }
  std::span<const float> Of(const NetworkTensor& tensor) const {
    return std::span(parameters).subspan(tensor.offset, tensor.size);
  }
  bool operator==(const Values&) const = default;

  std::vector<float> parameters;
  std::vector<float> buffers;
};

constexpr char kManyInitializers[] = R"({"inputs":[{"shape":[9,9,5]}],"layers":[
    {"conv2d":{"filters":40,"kernelSize":[3],"biasInitializer":{"randomUniform":{}}}},
    {"batchNormalization":{"betaInitializer":{"constant":{"value":0.25}},
                           "movingMeanInitializer":{"constant":{"value":-3}}}},
    {"flatten":{}},
    {"dense":{"units":20}},
    {"name":"he","dense":{"units":20,"kernelInitializer":{"heUniform":{}}}},
    {"name":"range","dense":{"units":300,
                             "kernelInitializer":{"randomUniform":{"minval":2,"maxval":3}}}}]})";

// Contract rule 10: initial values are a function of the seed.
TEST(InitializeTest, IsAFunctionOfTheSeed) {
  const Network network = BuildJson(kManyInitializers);
  const Values values(network, 7);
  EXPECT_EQ(values, Values(network, 7));
  EXPECT_EQ(values, Values(BuildJson(kManyInitializers), 7));
  EXPECT_NE(values, Values(network, 8));
  EXPECT_NE(values, Values(network, 7 + (uint64_t{1} << 32)));
}

TEST(InitializeTest, UniformValuesFillTheirRange) {
  const Network network = BuildJson(kManyInitializers);
  const Values values(network, 7);
  const struct {
    const char* tensor;
    double low;
    double high;
  } table[] = {
      // sqrt(6 / (fan_in + fan_out)), where a convolution's fans count the kernel's taps.
      {"conv2d.kernel", -std::sqrt(6.0 / (9 * 5 + 9 * 40)), std::sqrt(6.0 / (9 * 5 + 9 * 40))},
      {"dense.kernel", -std::sqrt(6.0 / (1960 + 20)), std::sqrt(6.0 / (1960 + 20))},
      {"he.kernel", -std::sqrt(6.0 / 20), std::sqrt(6.0 / 20)},
      {"range.kernel", 2, 3},
      {"conv2d.bias", -0.05, 0.05},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.tensor);
    const std::span<const float> tensor = values.Of(Find(network.parameters(), row.tensor));
    const auto n = static_cast<double>(tensor.size());
    double sum = 0;
    double lowest = row.high;
    double highest = row.low;
    for (float v : tensor) {
      sum += v;
      lowest = std::min<double>(lowest, v);
      highest = std::max<double>(highest, v);
    }
    const double width = row.high - row.low;
    EXPECT_GE(lowest, row.low - 1e-6 * width);
    EXPECT_LE(highest, row.high + 1e-6 * width);
    // An end is missed by more than 12/n of the width with probability e^-12.
    EXPECT_LT(lowest, row.low + width * 12 / n);
    EXPECT_GT(highest, row.high - width * 12 / n);
    EXPECT_NEAR(sum / n, (row.low + row.high) / 2, 5 * width / std::sqrt(12 * n));
  }
}

TEST(InitializeTest, ConstantsAndGaps) {
  const Network network = BuildJson(kManyInitializers);
  const Values values(network, 7);
  const auto expect_all = [](std::span<const float> tensor, float expected) {
    for (float v : tensor) ASSERT_EQ(v, expected);
  };
  expect_all(values.Of(Find(network.parameters(), "dense.bias")), 0.0f);
  expect_all(values.Of(Find(network.parameters(), "batch_normalization.gamma")), 1.0f);
  expect_all(values.Of(Find(network.parameters(), "batch_normalization.beta")), 0.25f);
  const NetworkTensor& mean = Find(network.buffers(), "batch_normalization.moving_mean");
  const NetworkTensor& variance = Find(network.buffers(), "batch_normalization.moving_variance");
  expect_all(std::span(values.buffers).subspan(mean.offset, mean.size), -3.0f);
  expect_all(std::span(values.buffers).subspan(variance.offset, variance.size), 1.0f);
  for (size_t i = 0; i < network.parameters().size(); ++i) {
    const NetworkTensor& tensor = network.parameters()[i];
    const int64_t end = i + 1 < network.parameters().size() ? network.parameters()[i + 1].offset
                                                            : network.parameters_size();
    expect_all(std::span(values.parameters)
                   .subspan(tensor.offset + tensor.size, end - tensor.offset - tensor.size),
               0.0f);
  }
}

// Two tensors of one shape do not start alike.
TEST(InitializeTest, EveryTensorHasNumbersOfItsOwn) {
  const Network network = BuildJson(R"({"inputs":[{"shape":[4]}],"layers":[
      {"dense":{"units":4}}, {"dense":{"units":4}}, {"dense":{"units":4}}]})");
  const Values values(network, 1);
  std::set<float> firsts;
  for (const NetworkTensor& tensor : network.parameters()) {
    if (tensor.name.ends_with("kernel")) firsts.insert(values.Of(tensor)[0]);
  }
  EXPECT_EQ(firsts.size(), 3u);
}

}  // namespace
}  // namespace lockstep
