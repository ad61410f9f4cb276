// Models that Keras describes become the specs that a person would write, in each of its dialects;
// and what we write, we read.

#include "core/keras/keras_model.h"

#include <google/protobuf/util/message_differencer.h>

#include "core/network/network.h"
#include "tests/core/keras/read_file.h"
#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;

v1::ModelSpec Converted(const std::string& json) {
  const auto spec = ModelFromKeras(json);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.value_or(v1::ModelSpec());
}

void ExpectEqual(const v1::ModelSpec& actual, const v1::ModelSpec& expected) {
  MessageDifferencer differencer;
  std::string differences;
  differencer.ReportDifferencesToString(&differences);
  EXPECT_TRUE(differencer.Compare(expected, actual)) << differences;
}

constexpr char kZeros[] = R"({"zeros": {}})";
constexpr char kOnes[] = R"({"ones": {}})";

TEST(ModelFromKeras, ReadsAllThreeDialects) {
  const std::string norm = std::string(R"("momentum": 0.9, "epsilon": 0.001, "center": true,
      "scale": true, "beta_initializer": )") +
                           kZeros + R"(, "gamma_initializer": )" + kOnes +
                           R"(, "moving_mean_initializer": )" + kZeros +
                           R"(, "moving_variance_initializer": )" + kOnes;
  const auto expected = [&](const std::string& axis) {
    return ParseJson<v1::ModelSpec>(R"({
        "inputs": [{"name": "image", "shape": [8, 8, 1]}],
        "layers": [
          {"name": "conv", "conv2d": {"filters": 4, "kernel_size": [3, 3], "strides": [1, 1],
             "padding": "same", "dilation_rate": [1, 1], "groups": 1, "activation": "linear",
             "use_bias": false, "kernel_initializer": {"he_normal": {}, "seed": 7},
             "bias_initializer": {"zeros": {}}}},
          {"name": "norm", "batch_normalization": {"axis": )" +
                                    axis + "," + norm + R"(}},
          {"name": "leaky", "activation": {"activation": "leaky_relu", "negative_slope": 0.3}},
          {"name": "add", "inputs": ["leaky", "norm"], "add": {}},
          {"name": "pool", "max_pooling2d": {"pool_size": [2, 2], "strides": [2, 2],
             "padding": "valid"}},
          {"name": "flat", "flatten": {}},
          {"name": "classes", "dense": {"units": 10, "activation": "softmax", "use_bias": true,
             "kernel_initializer": {"glorot_uniform": {}}, "bias_initializer": {"zeros": {}},
             "kernel_regularizer": {"l2": 0.001}}}]})");
  };
  ExpectEqual(Converted(ReadKerasJson("keras3")), expected("-1"));
  ExpectEqual(Converted(ReadKerasJson("tf_keras")), expected("3"));
  ExpectEqual(Converted(ReadKerasJson("keras2")), expected("3"));
}

TEST(ModelFromKeras, ReadsEveryLayerOfImages) {
  ExpectEqual(Converted(ReadKerasJson("images")),
              ParseJson<v1::ModelSpec>(ReadKerasJson("images.spec")));
}

TEST(ModelFromKeras, ReadsGraphsWithSeveralInputsAndOutputs) {
  ExpectEqual(Converted(ReadKerasJson("graph")),
              ParseJson<v1::ModelSpec>(ReadKerasJson("graph.spec")));
}

// What Keras leaves out, or writes in short, is its default.
TEST(ModelFromKeras, TakesWhatIsLeftOutAsTheDefault) {
  ExpectEqual(Converted(R"({"class_name": "Sequential", "config": [
                  {"class_name": "Dense", "config": {"name": "d", "units": 3.0,
                     "batch_input_shape": [16, 4], "activation": "swish",
                     "kernel_initializer": "he_uniform", "bias_initializer": "Ones",
                     "kernel_regularizer": "l2", "dtype": "float32"}},
                  {"class_name": "LeakyReLU", "config": {"name": "l"}},
                  {"class_name": "Conv1D", "config": {"name": "c", "filters": 2,
                     "kernel_size": [5], "activation": {"class_name": "function",
                     "config": "relu", "module": "builtins", "registered_name": "relu"}}}]})"),
              ParseJson<v1::ModelSpec>(R"({
                  "inputs": [{"name": "d_input", "shape": [4]}],
                  "layers": [
                    {"name": "d", "dense": {"units": 3, "activation": "silu",
                       "kernel_initializer": {"he_uniform": {}}, "bias_initializer": {"ones": {}},
                       "kernel_regularizer": {"l2": 0.01}}},
                    {"name": "l", "activation": {"activation": "leaky_relu",
                                                 "negative_slope": 0.3}},
                    {"name": "c", "conv1d": {"filters": 2, "kernel_size": 5,
                                             "activation": "relu"}}]})"));
}

TEST(ModelFromKeras, TakesTheInputsShapeFromTheBuild) {
  const std::string layers =
      R"("layers": [{"class_name": "Dense", "config": {"name": "d", "units": 1}}])";
  const v1::ModelSpec expected = ParseJson<v1::ModelSpec>(R"({
      "inputs": [{"name": "d_input", "shape": [7]}],
      "layers": [{"name": "d", "dense": {"units": 1}}]})");
  ExpectEqual(Converted(R"({"class_name": "Sequential", "config": {)" + layers +
                        R"(, "build_input_shape": [null, 7]}})"),
              expected);
  ExpectEqual(Converted(R"({"class_name": "Sequential", "config": {)" + layers +
                        R"(}, "build_config": {"input_shape": [null, 7]}})"),
              expected);
}

// A frozen model is one of frozen layers; the layers' order is one that can be computed in.
TEST(ModelFromKeras, FreezesAndOrders) {
  ExpectEqual(Converted(R"({"class_name": "Functional", "config": {"trainable": false, "layers": [
          {"class_name": "Flatten", "name": "b", "config": {"name": "b"},
           "inbound_nodes": [[["a", 0, 0, {}]]]},
          {"class_name": "Flatten", "name": "a", "config": {"name": "a"},
           "inbound_nodes": [["x", 0, 0]]},
          {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 2]}}],
          "input_layers": ["x", 0, 0], "output_layers": {"out": ["b", 0, 0]}}})"),
              ParseJson<v1::ModelSpec>(R"({"inputs": [{"name": "x", "shape": [2]}], "layers": [
          {"name": "a", "trainable": false, "flatten": {}},
          {"name": "b", "trainable": false, "flatten": {}}]})"));
}

TEST(ModelToKeras, WritesWhatIsReadAgain) {
  for (const char* name : {"keras3", "tf_keras", "images", "graph"}) {
    SCOPED_TRACE(name);
    const v1::ModelSpec spec = Converted(ReadKerasJson(name));
    const auto json = ModelToKeras(spec);
    ASSERT_TRUE(json.ok()) << json.status();
    ExpectEqual(Converted(*json), spec);
  }
}

TEST(ModelToKeras, WritesASpecWithItsDefaultsFilledIn) {
  v1::ModelSpec spec = ParseJson<v1::ModelSpec>(R"({
      "inputs": [{"shape": [8, 8, 1]}], "layers": [
        {"conv2d": {"filters": 2, "kernel_size": [3]}}, {"batch_normalization": {}},
        {"activation": {"activation": "relu"}}, {"flatten": {}},
        {"dense": {"units": 2, "activation": "softmax"}}]})");
  ASSERT_TRUE(Network::Build(&spec).ok());
  const auto json = ModelToKeras(spec);
  ASSERT_TRUE(json.ok()) << json.status();
  v1::ModelSpec again = Converted(*json);
  ASSERT_TRUE(Network::Build(&again).ok());
  ExpectEqual(again, spec);
}

// make_testdata.py has found that Keras builds the same models from these.
TEST(ModelToKeras, WritesWhatKerasReads) {
  for (const std::string name : {"keras3", "images", "graph"}) {
    const auto json = ModelToKeras(Converted(ReadKerasJson(name)));
    ASSERT_TRUE(json.ok()) << json.status();
    EXPECT_EQ(*json + "\n", ReadKerasJson(name + ".written"));
  }
}

// Keras has layers for what our inputs and convolutions do by themselves.
TEST(ModelToKeras, SpellsOutScaleAndExplicitPadding) {
  const auto json = ModelToKeras(ParseJson<v1::ModelSpec>(R"({
      "inputs": [{"name": "image", "shape": [8, 8, 1], "scale": 0.5, "offset": -1}],
      "layers": [{"name": "block/conv", "conv2d": {"filters": 2, "kernel_size": [3, 3],
                    "padding": "explicit", "explicit_padding": [1, 2, 3, 4]}}]})"));
  ASSERT_TRUE(json.ok()) << json.status();
  ExpectEqual(Converted(*json), ParseJson<v1::ModelSpec>(R"({
      "inputs": [{"name": "image", "shape": [8, 8, 1]}],
      "layers": [
        {"name": "image_rescaling", "rescaling": {"scale": 0.5, "offset": -1}},
        {"name": "block_conv_padding", "zero_padding2d": {"padding": [1, 2, 3, 4]}},
        {"name": "block_conv", "conv2d": {"filters": 2, "kernel_size": [3, 3],
                                          "padding": "valid"}}]})"));
}

TEST(ModelToKeras, SaysWhatKerasCannot) {
  const auto refusal = [](const std::string& layers) {
    return std::string(
        ModelToKeras(ParseJson<v1::ModelSpec>(
                         R"({"inputs": [{"name": "x", "shape": [8]}], "layers": )" + layers + "}"))
            .status()
            .message());
  };
  EXPECT_EQ(refusal(R"([{"name": "a", "dense": {"units": 1, "activation": "gelu_tanh"}}])"),
            "model.layers[0].dense.activation: Keras has no name for \"gelu_tanh\"");
  EXPECT_EQ(refusal(R"([{"name": "a/b", "flatten": {}}, {"name": "a_b", "flatten": {}}])"),
            "model.layers[1].name: \"a_b\" is \"a_b\" in Keras, as another layer's is");
}

}  // namespace
}  // namespace lockstep
