// What Network::Build refuses of the layers themselves: each row a mistake that somebody will make,
// and the message's field path with what is wrong and what is allowed.

#include <gtest/gtest.h>

#include <string>

#include "tests/core/network/refusal.h"

namespace lockstep {
namespace {

TEST(LayerErrorTest, Dense) {
  const auto after_dense = [](const std::string& fields) {
    return Flat(R"({"dense":{"units":3}},{"dense":{)" + fields + "}}");
  };
  for (const Refusal& refusal : {
           Refusal{after_dense(R"("units":2,"activation":"swish")"),
                   "model.layers[1].dense.activation: must be one of linear, relu, relu6, "
                   "leaky_relu, elu, selu, gelu, gelu_tanh, silu, sigmoid, hard_sigmoid, tanh, "
                   "softplus, softmax; got \"swish\""},
           Refusal{after_dense(""), "model.layers[1].dense.units: must be >= 1, got 0"},
           Refusal{after_dense(R"("units":-5)"),
                   "model.layers[1].dense.units: must be >= 1, got -5"},
           Refusal{after_dense(R"("units":"9223372036854775807")"),
                   "model.layers[1].dense.units: kernel [3, 9223372036854775807] is too large"},
           Refusal{after_dense(R"("units":2,"kernelInitializer":{"constant":{"value":"NaN"}})"),
                   "model.layers[1].dense.kernel_initializer.constant.value: must be finite"},
           Refusal{after_dense(R"("units":2,"biasInitializer":{"randomUniform":{"minval":1,)"
                               R"("maxval":0.5}})"),
                   "model.layers[1].dense.bias_initializer.random_uniform: needs finite minval <= "
                   "maxval, got 1 and 0.5"},
           // Above the default of the other end.
           Refusal{after_dense(R"("units":2,"kernelInitializer":{"randomUniform":{"minval":1}})"),
                   "needs finite minval <= maxval, got 1 and 0.05"},
           Refusal{Image(R"({"dense":{"units":"9223372036854775807"}})"),
                   "model.layers[0].dense.units: kernel [2, 9223372036854775807] is too large"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, Initializers) {
  const auto dense = [](const std::string& fields) {
    return Flat(R"({"dense":{"units":3,)" + fields + "}}");
  };
  const auto kernel = [&](const std::string& fields) {
    return dense(R"("kernelInitializer":{)" + fields + "}");
  };
  const std::string path = "model.layers[0].dense.kernel_initializer.";
  for (const Refusal& refusal : {
           Refusal{kernel(R"("randomNormal":{"stddev":-1})"),
                   path + "random_normal.stddev: must be >= 0 and finite, got -1"},
           Refusal{kernel(R"("randomNormal":{"mean":"NaN"})"),
                   path + "random_normal.mean: must be finite, got nan"},
           Refusal{kernel(R"("truncatedNormal":{"stddev":"Infinity"})"),
                   path + "truncated_normal.stddev: must be >= 0 and finite, got inf"},
           Refusal{kernel(R"("varianceScaling":{"scale":0})"),
                   path + "variance_scaling.scale: must be > 0 and finite, got 0"},
           Refusal{kernel(R"("varianceScaling":{"mode":"fan"})"),
                   path + "variance_scaling.mode: must be fan_in, fan_out or fan_avg; got \"fan\""},
           Refusal{kernel(R"("varianceScaling":{"distribution":"normal"})"),
                   path + "variance_scaling.distribution: must be truncated_normal, "
                          "untruncated_normal or uniform; got \"normal\""},
           Refusal{kernel(R"("orthogonal":{"gain":"NaN"})"),
                   path + "orthogonal.gain: must be finite, got nan"},
           Refusal{kernel(R"("identity":{"gain":"Infinity"})"),
                   path + "identity.gain: must be finite, got inf"},
           Refusal{dense(R"("biasInitializer":{"orthogonal":{}})"),
                   "model.layers[0].dense: the initializer of \"dense.bias\" needs two dimensions "
                   "or more, got [3]"},
           Refusal{dense(R"("biasInitializer":{"identity":{}})"),
                   "model.layers[0].dense: the initializer of \"dense.bias\" needs two dimensions, "
                   "got [3]"},
           Refusal{Image(R"({"conv2d":{"filters":3,"kernelSize":[1],)"
                         R"("kernelInitializer":{"identity":{}}}})"),
                   "\"conv2d.kernel\" needs two dimensions, got [1, 1, 2, 3]"},
           Refusal{R"({"inputs":[{"shape":[4096]}],"layers":[{"dense":{"units":2048,)"
                   R"("kernelInitializer":{"orthogonal":{}}}}]})",
                   "rows * columns * the lesser of them at most 8589934592, got [4096, 2048]"},
           Refusal{R"({"inputs":[{"shape":[1]}],"layers":[{"dense":{"units":100000000,)"
                   R"("kernelInitializer":{"orthogonal":{}}}}]})",
                   "needs at most 16777216 values and"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, ActivationArguments) {
  const auto activation = [](const std::string& fields) {
    return Flat(R"({"activation":{"activation":)" + fields + "}}");
  };
  const std::string path = "model.layers[0].activation.";
  for (const Refusal& refusal : {
           Refusal{activation(R"("tanh","negativeSlope":0.1)"),
                   path + "negative_slope: is an argument of relu and leaky_relu, not of tanh"},
           Refusal{activation(R"("leaky_relu","maxValue":6)"),
                   path + "max_value: is an argument of relu, not of leaky_relu"},
           Refusal{activation(R"("selu","alpha":1)"),
                   path + "alpha: is an argument of elu, not of selu"},
           Refusal{activation(R"("relu","negativeSlope":-0.1)"),
                   path + "negative_slope: must be >= 0 and finite, got -0.1"},
           Refusal{activation(R"("relu","negativeSlope":"NaN")"),
                   path + "negative_slope: must be >= 0 and finite, got nan"},
           Refusal{activation(R"("relu","maxValue":0)"),
                   path + "max_value: must be > 0 and finite, got 0"},
           Refusal{activation(R"("relu","maxValue":"Infinity")"),
                   path + "max_value: must be > 0 and finite, got inf"},
           Refusal{activation(R"("elu","alpha":-1)"),
                   path + "alpha: must be >= 0 and finite, got -1"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, NormalizationWithinSamplesAndRescaling) {
  for (const Refusal& refusal : {
           Refusal{Image(R"({"layerNormalization":{"axis":[0]}})"),
                   "model.layers[0].layer_normalization.axis: must be consecutive axes up to the "
                   "last, within [1, 3] or [-3, -1], got [0]"},
           Refusal{Image(R"({"layerNormalization":{"axis":[1]}})"), "axis: must be consecutive"},
           Refusal{Image(R"({"layerNormalization":{"axis":[1,3]}})"), "axis: must be consecutive"},
           Refusal{Image(R"({"layerNormalization":{"axis":[3,-1]}})"), "got [3, -1]"},
           Refusal{Image(R"({"layerNormalization":{"axis":[4]}})"), "got [4]"},
           Refusal{Image(R"({"layerNormalization":{"axis":["-9223372036854775808",)"
                         R"("9223372036854775807","9223372036854775807"]}})"),
                   "got [-9223372036854775808, "},
           Refusal{Image(R"({"layerNormalization":{"epsilon":0}})"),
                   "model.layers[0].layer_normalization.epsilon: must be > 0 and finite, got 0"},
           Refusal{Image(R"({"groupNormalization":{}})"),
                   "model.layers[0].group_normalization.groups: must be -1, or >= 1 and divide the "
                   "2 channels; got 32"},
           Refusal{Image(R"({"groupNormalization":{"groups":0}})"), "2 channels; got 0"},
           Refusal{Image(R"({"groupNormalization":{"groups":-2}})"), "2 channels; got -2"},
           Refusal{Image(R"({"groupNormalization":{"groups":2,"epsilon":"NaN"}})"),
                   "group_normalization.epsilon: must be > 0 and finite, got nan"},
           Refusal{Image(R"({"rescaling":{"scale":"NaN"}})"),
                   "model.layers[0].rescaling.scale: must be finite, got nan"},
           Refusal{Image(R"({"rescaling":{"offset":"-Infinity"}})"),
                   "model.layers[0].rescaling.offset: must be finite, got -inf"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, Normalization) {
  const auto with = [](const std::string& fields) {
    return Image(R"({"normalization":{)" + fields + "}}");
  };
  const std::string path = "model.layers[0].normalization.";
  const std::string reads_none =
      "\"normalization\" reads no input, directly or through rescaling, whose statistics";
  for (const Refusal& refusal : {
           Refusal{
               with(R"("mean":[1])"),
               path + "variance: must have one number, or one for each of the 2 channels; got 0"},
           Refusal{with(R"("variance":[1,2])"), path + "mean: must have one number, or"},
           Refusal{with(R"("mean":[1,2,3],"variance":[1])"), "of the 2 channels; got 3"},
           Refusal{with(R"("mean":[1,"NaN"],"variance":[1])"), path + "mean: must be finite, got"},
           Refusal{with(R"("mean":["-Infinity"],"variance":[1])"),
                   "mean: must be finite, got -inf"},
           Refusal{with(R"("mean":[1],"variance":[0,-0.5])"),
                   path + "variance: must be >= 0 and finite, got -0.5"},
           Refusal{with(R"("mean":[1],"variance":["Infinity"])"), "variance: must be >= 0 and"},
           Refusal{with(R"("mean":[1],"variance":["NaN"])"), "variance: must be >= 0 and finite"},
           Refusal{Image(R"({"flatten":{}},{"normalization":{}})"),
                   "model.layers[1].normalization: needs mean and variance, because " + reads_none},
           Refusal{Image(R"({"dense":{"units":2}},{"rescaling":{}},{"normalization":{}})"),
                   reads_none},
           Refusal{Image(R"({"normalization":{"mean":[0],"variance":[1]}},{"normalization":{}})"),
                   "\"normalization_1\" reads no input"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, NormalizationTakesAnInputsStatistics) {
  for (const char* layers :
       {R"({"normalization":{}})", R"({"rescaling":{}},{"rescaling":{}},{"normalization":{}})",
        R"({"name":"a","dense":{"units":4}},{"name":"b","inputs":["input"],"normalization":{}},)"
        R"({"inputs":["a","b"],"add":{}})"}) {
    auto spec = ParseJson<v1::ModelSpec>(Flat(layers));
    EXPECT_TRUE(Network::Build(&spec).ok()) << layers;
  }
}

TEST(LayerErrorTest, Conv2D) {
  const auto conv = [](const std::string& fields) {
    return Image(R"({"conv2d":{"filters":3,)" + fields + "}}");
  };
  for (const Refusal& refusal : {
           Refusal{Flat(R"({"conv2d":{"filters":3,"kernelSize":[3]}})"),
                   "model.layers[0].conv2d: needs input [N, H, W, channels], but \"conv2d\" gets 1 "
                   "dimension(s) a sample"},
           Refusal{Image(R"({"conv2d":{"kernelSize":[3]}})"),
                   "model.layers[0].conv2d.filters: must be >= 1, got 0"},
           Refusal{Image(R"({"conv2d":{"filters":3}})"),
                   "model.layers[0].conv2d.kernel_size: is required"},
           Refusal{conv(R"("kernelSize":[0])"),
                   "model.layers[0].conv2d.kernel_size: must be >= 1, got 0"},
           Refusal{conv(R"("kernelSize":[3,3,3])"),
                   "model.layers[0].conv2d.kernel_size: must have one or two numbers, got 3"},
           Refusal{conv(R"("kernelSize":[3,9])"),
                   "model.layers[0].conv2d.kernel_size: [3, 9] does not fit the input [8, 8, 2] "
                   "with padding \"valid\""},
           Refusal{conv(R"("kernelSize":[18,3],"padding":"same")"),
                   "model.layers[0].conv2d.kernel_size: [18, 3] is more than twice the input"},
           Refusal{conv(R"("kernelSize":[3],"strides":[0])"),
                   "model.layers[0].conv2d.strides: must be >= 1, got 0"},
           Refusal{conv(R"("kernelSize":[3],"dilationRate":[1,0])"),
                   "model.layers[0].conv2d.dilation_rate: must be >= 1, got 0"},
           Refusal{conv(R"("kernelSize":[3],"dilationRate":[4])"),
                   "model.layers[0].conv2d.kernel_size: [3, 3], dilated to [9, 9] pixels, does not "
                   "fit the input [8, 8, 2] with padding \"valid\""},
           Refusal{
               conv(R"("kernelSize":[3],"groups":2)"),
               "model.layers[0].conv2d.groups: must be >= 1 and divide the 2 input channels and "
               "the 3 filters; got 2"},
           Refusal{conv(R"("kernelSize":[3],"groups":0)"),
                   "model.layers[0].conv2d.groups: must be"},
           Refusal{conv(R"("kernelSize":[3],"padding":"full")"),
                   "model.layers[0].conv2d.padding: must be valid, same or explicit; got \"full\""},
           Refusal{conv(R"("kernelSize":[3],"activation":"RELU")"),
                   "model.layers[0].conv2d.activation: must be one of"},
           Refusal{conv(R"("kernelSize":[3],"biasInitializer":{"constant":{"value":"Infinity"}})"),
                   "model.layers[0].conv2d.bias_initializer.constant.value: must be finite"},
           Refusal{Image(R"({"conv2d":{"filters":"9223372036854775807","kernelSize":[3]}})"),
                   "model.layers[0].conv2d.filters: kernel [3, 3, 2, 9223372036854775807] is too "
                   "large"},
           // Numbers that would keep a server busy for hours.
           Refusal{conv(R"("kernelSize":[3],"strides":[1048576])"),
                   "model.layers[0].conv2d.strides: must be <= 256, got 1048576"},
           Refusal{R"({"inputs":[{"shape":[2048,2048,1]}],"layers":[{"conv2d":{"filters":1,)"
                   R"("kernelSize":[2048],"padding":"same"}}]})",
                   "model.layers[0].conv2d.kernel_size: must be <= 256, got 2048"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, OtherConvolutions) {
  const auto sequence = [](const std::string& fields) {
    return R"({"inputs":[{"shape":[8,4]}],"layers":[{"conv1d":{)" + fields + "}}]}";
  };
  const auto depthwise = [](const std::string& fields) {
    return Image(R"({"depthwiseConv2d":{)" + fields + "}}");
  };
  const auto separable = [](const std::string& fields) {
    return Image(R"({"separableConv2d":{)" + fields + "}}");
  };
  const auto padded = [](const std::string& fields) {
    return Image(R"({"conv2d":{"filters":3,"kernelSize":[3],)" + fields + "}}");
  };
  for (const Refusal& refusal : {
           Refusal{padded(R"("padding":"causal")"), "must be valid, same or explicit; got"},
           Refusal{padded(R"("padding":"explicit")"),
                   "model.layers[0].conv2d.explicit_padding: must have 4 numbers, [top, bottom, "
                   "left, right]; got 0"},
           Refusal{padded(R"("explicitPadding":[1,1,1,1])"),
                   "model.layers[0].conv2d.explicit_padding: needs padding \"explicit\", but "
                   "padding is \"valid\""},
           Refusal{padded(R"("padding":"explicit","explicitPadding":[1,1,3,1])"),
                   "explicit_padding: must be within [0, 2], less than the kernel's extent, got 3"},
           Refusal{
               padded(R"("padding":"explicit","explicitPadding":[1,-1,1,1])"),
               "explicit_padding: must be within [0, 2], less than the kernel's extent, got -1"},
           Refusal{Image(R"({"conv1d":{"filters":1,"kernelSize":1}})"),
                   "model.layers[0].conv1d: needs input [N, L, channels], but \"conv1d\" gets 3 "
                   "dimension(s) a sample"},
           Refusal{sequence(R"("kernelSize":3)"), "model.layers[0].conv1d.filters: must be >= 1"},
           Refusal{sequence(R"("filters":2)"),
                   "model.layers[0].conv1d.kernel_size: must be within [1, 256], got 0"},
           Refusal{sequence(R"("filters":2,"kernelSize":3,"strides":-1)"),
                   "model.layers[0].conv1d.strides: must be within [1, 256], got -1"},
           Refusal{sequence(R"("filters":2,"kernelSize":9)"),
                   "model.layers[0].conv1d.kernel_size: [9] does not fit the input [8, 4] with "
                   "padding \"valid\""},
           Refusal{sequence(R"("filters":2,"kernelSize":10,"dilationRate":2,"padding":"causal")"),
                   "model.layers[0].conv1d.kernel_size: [10], dilated to [19] pixels, is more than "
                   "twice the input [8, 4]"},
           Refusal{sequence(R"("filters":2,"kernelSize":3,"padding":"full")"),
                   "must be valid, same, causal or explicit; got \"full\""},
           Refusal{sequence(R"("filters":2,"kernelSize":3,"groups":3)"),
                   "model.layers[0].conv1d.groups: must be >= 1 and divide the 4 input channels"},
           Refusal{depthwise(""), "model.layers[0].depthwise_conv2d.kernel_size: is required"},
           Refusal{depthwise(R"("kernelSize":[3],"depthMultiplier":0)"),
                   "model.layers[0].depthwise_conv2d.depth_multiplier: must be >= 1, got 0"},
           Refusal{depthwise(R"("kernelSize":[3],"depthMultiplier":"9223372036854775807")"),
                   "depth_multiplier: kernel [3, 3, 2, 9223372036854775807] is too large"},
           Refusal{depthwise(R"("kernelSize":[3],"depthwiseInitializer":)"
                             R"({"constant":{"value":"NaN"}})"),
                   "depthwise_conv2d.depthwise_initializer.constant.value: must be finite"},
           Refusal{separable(R"("kernelSize":[3])"),
                   "model.layers[0].separable_conv2d.filters: must be >= 1, got 0"},
           Refusal{separable(R"("filters":"1000000000","kernelSize":[3])"),
                   "separable_conv2d.filters: kernel [1, 1, 2, 1000000000] is too large"},
           Refusal{separable(R"("filters":1,"kernelSize":[1],"depthMultiplier":100000000)"),
                   "separable_conv2d.depth_multiplier: the depthwise output [8, 8, 200000000] is "
                   "too large"},
           Refusal{separable(R"("filters":1,"kernelSize":[3],"activation":"RELU")"),
                   "separable_conv2d.activation: must be one of"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, Shapes) {
  const auto merge = [](const std::string& layer) {
    return Image(R"({"name":"a","conv2d":{"filters":3,"kernelSize":[1]}},)" + layer);
  };
  for (const Refusal& refusal : {
           Refusal{Image(R"({"reshape":{}})"),
                   "model.layers[0].reshape.target_shape: must have 1 to 6 dimensions, got 0"},
           Refusal{Image(R"({"reshape":{"targetShape":[5,-1]}})"),
                   "reshape.target_shape: [5, -1] does not have the 128 values of the input "
                   "[8, 8, 2]"},
           Refusal{Image(R"({"reshape":{"targetShape":[-1,-1]}})"),
                   "target_shape: dimensions must be >= 1, or one of them -1, got [-1, -1]"},
           Refusal{Image(R"({"reshape":{"targetShape":[0,128]}})"),
                   "dimensions must be >= 1, or one of them -1, got [0, 128]"},
           Refusal{Image(R"({"reshape":{"targetShape":["4294967296","4294967296"]}})"),
                   "does not have the 128 values"},
           Refusal{Image(R"({"permute":{"dims":[1,2]}})"),
                   "model.layers[0].permute.dims: must hold each of 1 to 3 once, got [1, 2]"},
           Refusal{Image(R"({"permute":{"dims":[0,1,2]}})"), "must hold each of 1 to 3 once"},
           Refusal{Image(R"({"permute":{"dims":[1,2,2]}})"), "must hold each of 1 to 3 once"},
           Refusal{Image(R"({"zeroPadding2d":{"padding":[1,1,1]}})"),
                   "model.layers[0].zero_padding2d.padding: must have one, two or four numbers"},
           Refusal{Image(R"({"zeroPadding2d":{"padding":[-1]}})"),
                   "zero_padding2d.padding: must be within [0, 65536], got -1"},
           Refusal{Image(R"({"zeroPadding2d":{"padding":[65536]}})"), "is too large; at most"},
           Refusal{merge(R"({"name":"b","concatenate":{"axis":1},"inputs":["a","input"]})"),
                   "model.layers[1].concatenate: needs inputs of one shape but for axis 1, but "
                   "\"b\" gets [8, 8, 3] and [8, 8, 2]"},
           Refusal{merge(R"({"concatenate":{"axis":0},"inputs":["a","input"]})"),
                   "model.layers[1].concatenate.axis: must be within [1, 3] or [-3, -1] (0 is the "
                   "batch), got 0"},
           Refusal{merge(R"({"concatenate":{"axis":-4},"inputs":["a","input"]})"),
                   "(0 is the batch), got -4"},
           Refusal{merge(R"({"flatten":{},"name":"f"},{"concatenate":{},"inputs":["a","f"]})"),
                   "needs inputs of one shape but for axis -1"},
           Refusal{merge(R"({"name":"b","multiply":{},"inputs":["a","input"]})"),
                   "model.layers[1].multiply: needs inputs of one shape, but \"b\" gets [8, 8, 3] "
                   "and [8, 8, 2]"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, PoolingAndNoise) {
  for (const Refusal& refusal : {
           Refusal{Image(R"({"maxPooling2d":{"padding":"full"}})"),
                   "model.layers[0].max_pooling2d.padding: must be valid or same; got \"full\""},
           Refusal{Image(R"({"averagePooling2d":{"poolSize":[3,18],"padding":"same"}})"),
                   "average_pooling2d.pool_size: [3, 18] is more than twice the input [8, 8, 2]"},
           Refusal{Image(R"({"maxPooling1d":{}})"),
                   "model.layers[0].max_pooling1d: needs input [N, L, channels]"},
           Refusal{R"({"inputs":[{"shape":[4,2]}],"layers":[{"averagePooling1d":{"poolSize":5}}]})",
                   "average_pooling1d.pool_size: 5 does not fit the input [4, 2]"},
           Refusal{R"({"inputs":[{"shape":[4,2]}],"layers":[{"maxPooling1d":{"strides":0}}]})",
                   "max_pooling1d.strides: must be within [1, 1048576], got 0"},
           Refusal{Flat(R"({"globalMaxPooling2d":{}})"), "needs input [N, H, W, channels]"},
           Refusal{Flat(R"({"globalAveragePooling1d":{}})"), "needs input [N, L, channels]"},
           Refusal{Flat(R"({"spatialDropout2d":{"rate":0.1}})"), "needs input [N, H, W, channels]"},
           Refusal{Image(R"({"spatialDropout2d":{"rate":1}})"),
                   "model.layers[0].spatial_dropout2d.rate: must be within [0, 1), got 1"},
           Refusal{Flat(R"({"gaussianNoise":{"stddev":-1}})"),
                   "model.layers[0].gaussian_noise.stddev: must be within [0, 1e+30], got -1"},
           Refusal{Flat(R"({"gaussianNoise":{"stddev":"NaN"}})"), "stddev: must be within"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(LayerErrorTest, OtherLayers) {
  const std::string norm = R"({"batchNormalization":{)";
  for (const Refusal& refusal : {
           Refusal{Flat(norm + R"("epsilon":0}})"),
                   "model.layers[0].batch_normalization.epsilon: must be > 0 and finite, got 0"},
           Refusal{Flat(norm + R"("epsilon":"NaN"}})"), "batch_normalization.epsilon: must be > 0"},
           Refusal{Flat(norm + R"("momentum":2}})"),
                   "model.layers[0].batch_normalization.momentum: must be within [0, 1] (it weighs "
                   "the old value, as in Keras), got 2"},
           Refusal{Flat(norm + R"("momentum":"NaN"}})"), "momentum: must be within [0, 1]"},
           Refusal{Flat(norm + R"("momentum":0.9,"cumulativeAverage":true}})"),
                   "momentum: means nothing with cumulative_average, got 0.9"},
           Refusal{Flat(norm + R"("convention":"torch"}})"),
                   "batch_normalization.convention: must be keras or pytorch; got \"torch\""},
           Refusal{Flat(norm + R"("axis":0}})"),
                   "axis: must be within [1, 1] or [-1, -1] (0 is the batch), got 0"},
           Refusal{Flat(norm + R"("axis":2}})"), "(0 is the batch), got 2"},
           Refusal{Flat(norm + R"("axis":-2}})"), "(0 is the batch), got -2"},
           Refusal{Flat(norm + R"("groupShards":3}})"),
                   "group_shards: must be 0 or a power of two up to 256, got 3"},
           Refusal{Flat(norm + R"("groupShards":-1}})"), "power of two up to 256, got -1"},
           Refusal{Flat(norm + R"("gammaInitializer":{"constant":{"value":"-Infinity"}}}})"),
                   "batch_normalization.gamma_initializer.constant.value: must be finite"},
           Refusal{Flat(R"({"dropout":{"rate":1}})"),
                   "model.layers[0].dropout.rate: must be within [0, 1), got 1"},
           Refusal{Flat(R"({"dropout":{"rate":-0.1}})"), "must be within [0, 1), got -0.1"},
           Refusal{Flat(R"({"dropout":{"rate":"NaN"}})"), "must be within [0, 1), got nan"},
           Refusal{Flat(R"({"activation":{}})"),
                   "model.layers[0].activation.activation: is required"},
           Refusal{Flat(R"({"activation":{"activation":"swish"}})"),
                   "model.layers[0].activation.activation: must be one of linear"},
           Refusal{Flat(R"({"maxPooling2d":{}})"),
                   "model.layers[0].max_pooling2d: needs input [N, H, W, channels]"},
           Refusal{Image(R"({"maxPooling2d":{"poolSize":[2,9]}})"),
                   "model.layers[0].max_pooling2d.pool_size: [2, 9] does not fit the input "
                   "[8, 8, 2]"},
           Refusal{Image(R"({"maxPooling2d":{"strides":[-1]}})"),
                   "model.layers[0].max_pooling2d.strides: must be >= 1, got -1"},
       }) {
    ExpectRefused(refusal);
  }
}

// Layers as a graph: which values they read.

}  // namespace
}  // namespace lockstep
