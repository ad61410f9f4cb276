// What cannot be honoured is refused with its place in the JSON; nothing is dropped in silence.

#include <chrono>

#include "core/keras/keras_model.h"
#include "tests/core/keras/read_file.h"

namespace lockstep {
namespace {

std::string Refusal(const std::string& json) {
  const auto spec = ModelFromKeras(json);
  EXPECT_TRUE(absl::IsInvalidArgument(spec.status())) << json.substr(0, 200);
  return std::string(spec.status().message());
}

// A model of one layer with these members of its config.
std::string WithLayer(const std::string& class_name, const std::string& members) {
  return R"({"class_name": "Sequential", "keras_version": "2.11.0", "config": {"layers": [
      {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 4]}},
      {"class_name": ")" +
         class_name + R"(", "config": {"name": "a", )" + members + "}}]}}";
}

TEST(KerasRefusal, NamesTheMemberOfALayer) {
  const struct {
    const char* class_name;
    const char* members;
    const char* refusal;  // after "config.layers[1]."
  } cases[] = {
      {"Dense", R"("kernel_constraint": {"class_name": "MaxNorm"})",
       R"(config.kernel_constraint: {"class_name": "MaxNorm"} is not supported)"},
      {"Dense", R"("lora_rank": 4)", "config.lora_rank: 4 is not supported"},
      {"Dense", R"("activity_regularizer": "l2")",
       "config.activity_regularizer: \"l2\" is not supported"},
      {"Dense", R"("explicit_padding": [1, 1])",
       "config.explicit_padding: [1, 1] is not supported"},
      {"Dense", R"("units": 2.5)", "config.units: must be a whole number, got 2.5"},
      {"Dense", R"("units": 1e30)", "config.units: must be a whole number, got 1e30"},
      {"Dense", R"("units": "ten")",
       "config.units: must be a number or a list of them, got \"ten\""},
      {"Dense", R"("use_bias": 1)", "config.use_bias: must be true or false, got 1"},
      {"Dense", R"("trainable": "no")", "config.trainable: must be true or false, got \"no\""},
      {"Dense", R"("dtype": "float64")", "config.dtype: must be \"float32\", got \"float64\""},
      {"Dense", R"("activation": "mish")",
       "config.activation: must be one of linear, relu, relu6, leaky_relu, elu, selu, gelu, silu, "
       "sigmoid, hard_sigmoid, tanh, softplus, softmax; got \"mish\""},
      {"Dense", R"("activation": "hard_sigmoid")",
       "config.activation: hard_sigmoid of Keras 2, clip(0.2 * x + 0.5, 0, 1), is not supported; "
       "that of Keras 3 is another function"},
      {"Dense", R"("activation": {"class_name": "ReLU", "config": {}})",
       "config.activation: the layer ReLU cannot be an activation; give it a place of its own"},
      {"Dense", R"("kernel_initializer": {"class_name": "Dirac", "config": {}})",
       "config.kernel_initializer: must be one of Zeros, Ones, Constant, GlorotUniform, HeUniform, "
       "RandomUniform, GlorotNormal, HeNormal, LecunUniform, LecunNormal, RandomNormal, "
       "TruncatedNormal, VarianceScaling, Orthogonal, Identity; got \"Dirac\""},
      {"Dense", R"("kernel_initializer": {"class_name": "HeNormal", "config": {"seed": -1}})",
       "config.kernel_initializer.config.seed: must be a whole number >= 0, got -1"},
      {"Dense", R"("kernel_initializer": {"class_name": "Constant", "config": {"value": [1, 2]}})",
       "config.kernel_initializer.config.value: must be one number, got 2"},
      {"Dense", R"("kernel_initializer": {"class_name": "Ones", "config": {"gain": 2}})",
       "config.kernel_initializer.config.gain: 2 is not supported"},
      {"Dense", R"("kernel_regularizer": {"class_name": "OrthogonalRegularizer", "config": {}})",
       "config.kernel_regularizer: must be L1, L2 or L1L2; got \"OrthogonalRegularizer\""},
      {"Conv2D", R"("data_format": "channels_first")",
       "config.data_format: must be \"channels_last\", got \"channels_first\""},
      {"Conv1D", R"("kernel_size": [3, 3])", "config.kernel_size: must be one number, got 2"},
      {"BatchNormalization", R"("renorm": true)", "config.renorm: true is not supported"},
      {"BatchNormalization", R"("axis": [1, 2])", "config.axis: must be one number, got 2"},
      {"GroupNormalization", R"("axis": 1)", "config.axis: must be -1, got 1"},
      {"LayerNormalization", R"("rms_scaling": true)", "config.rms_scaling: true is not supported"},
      {"Softmax", R"("axis": 1)", "config.axis: must be -1, got 1"},
      {"ReLU", R"("threshold": 1.0)", "config.threshold: must be 0, got 1.0"},
      {"Dropout", R"("noise_shape": [1, 4])", "config.noise_shape: [1, 4] is not supported"},
      {"Rescaling", R"("scale": [1, 2])", "config.scale: must be one number, got 2"},
      {"Normalization", R"("axis": 1)",
       "config.axis: must be -1, or null with one mean and one variance"},
      {"Normalization", R"("axis": null)",
       "config.axis: must be -1, or null with one mean and one variance"},
      {"Normalization", R"("invert": true)", "config.invert: true is not supported"},
      {"Flatten", R"("name": "a.b")",
       "config.name: must be 1 to 128 characters of A-Z a-z 0-9 _ - /, got \"a.b\""},
      {"Sequential", R"("layers": [])",
       "class_name: a Sequential model within a model is not supported; use its layers themselves"},
      {"InputLayer", R"("batch_shape": [null, 4])", ": an input must be the first layer"},
      {"InputLayer", R"("batch_shape": [null, null, 3])",
       "config.batch_shape: must be the batch and fixed dimensions, got [null, null, 3]"},
      {"InputLayer", R"("sparse": true)", "config.batch_shape: is required"},
  };
  for (const auto& c : cases) {
    std::string members = c.members;
    // The last of two names counts for nobody: a case with a name of its own replaces "a".
    std::string json = WithLayer(c.class_name, members);
    if (members.find("\"name\"") != std::string::npos) {
      json.replace(json.find("\"name\": \"a\", "), 13, "");
    }
    const std::string place = c.refusal[0] == ':' ? "config.layers[1]" : "config.layers[1].";
    EXPECT_EQ(Refusal(json), place + c.refusal) << c.class_name << " " << c.members;
  }
}

TEST(KerasRefusal, KnowsTheClassesThereAre) {
  EXPECT_EQ(Refusal(WithLayer("LSTM", R"("units": 4)")),
            "config.layers[1].class_name: must be one of InputLayer, Activation, Add, "
            "AveragePooling1D, AveragePooling2D, BatchNormalization, Concatenate, Conv1D, Conv2D, "
            "Dense, DepthwiseConv2D, Dropout, ELU, Flatten, GaussianNoise, GlobalAveragePooling1D, "
            "GlobalAveragePooling2D, GlobalMaxPooling1D, GlobalMaxPooling2D, GroupNormalization, "
            "LayerNormalization, LeakyReLU, MaxPooling1D, MaxPooling2D, Multiply, Normalization, "
            "Permute, ReLU, Rescaling, Reshape, SeparableConv2D, Softmax, SpatialDropout2D, "
            "ZeroPadding2D; got \"LSTM\"");
}

// Written by Keras 3.
TEST(KerasRefusal, RefusesWhatKerasCanAndWeCannot) {
  EXPECT_EQ(Refusal(ReadKerasJson("refused_lambda")).substr(0, 50),
            "config.layers[1].class_name: must be one of InputL");
  EXPECT_EQ(Refusal(ReadKerasJson("refused_nested")),
            "config.layers[1].class_name: a Sequential model within a model is not supported; use "
            "its layers themselves");
  EXPECT_EQ(Refusal(ReadKerasJson("refused_shared")),
            "config.layers[2].inbound_nodes: a layer that is called 2 times is not supported; its "
            "weights would be shared");
  EXPECT_EQ(Refusal(ReadKerasJson("refused_mixed")),
            "config.layers[1].config.dtype.config.name: must be \"float32\", got "
            "\"mixed_float16\"");
}

TEST(KerasRefusal, RefusesCustomObjects) {
  const auto layer = [](const std::string& origin) {
    return R"({"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense",
        "config": {"name": "a", "units": 1, "batch_input_shape": [null, 2]}, )" +
           origin + "}]}}";
  };
  EXPECT_EQ(Refusal(layer(R"("module": "my.layers", "registered_name": null)")),
            "config.layers[0].class_name: custom objects are not supported, got \"Dense\" of "
            "my.layers");
  EXPECT_EQ(Refusal(layer(R"("module": "keras", "registered_name": "mine>Dense")")),
            "config.layers[0].class_name: custom objects are not supported, got \"Dense\" of "
            "mine>Dense");
  EXPECT_EQ(Refusal(layer(R"("module": "keras.src.ops.nn", "registered_name": "Dense")")),
            "config.layers[0].class_name: the function Dense of keras.src.ops.nn is not supported; "
            "use a layer");
  EXPECT_EQ(Refusal(layer(R"("surprise": 1)")), "config.layers[0].surprise: 1 is not supported");
}

// A graph x -> a -> b with these references.
std::string Graph(const std::string& a_reads, const std::string& b_reads,
                  const std::string& output = R"([["b", 0, 0]])") {
  return R"({"class_name": "Functional", "config": {"layers": [
      {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 2]}},
      {"class_name": "Flatten", "config": {"name": "a"}, "inbound_nodes": )" +
         a_reads + R"(},
      {"class_name": "Flatten", "config": {"name": "b"}, "inbound_nodes": )" +
         b_reads + R"(}],
      "input_layers": [["x", 0, 0]], "output_layers": )" +
         output + "}}";
}

TEST(KerasRefusal, RefusesGraphsThatAreNone) {
  constexpr char kX[] = R"([[["x", 0, 0, {}]]])";
  constexpr char kA[] = R"([[["a", 0, 0, {}]]])";
  EXPECT_EQ(Refusal(Graph(R"([[["b", 0, 0, {}]]])", kA)),
            "config.layers[1].inbound_nodes: the layer is part of a cycle, or reads one");
  EXPECT_EQ(Refusal(Graph(kX, R"([[["c", 0, 0, {}]]])")),
            "config.layers[2].inbound_nodes: there is no layer \"c\"");
  EXPECT_EQ(Refusal(Graph(kX, "[]")), "config.layers[2].inbound_nodes: the layer reads nothing");
  EXPECT_EQ(Refusal(Graph(kX, R"([[["a", 1, 0, {}]]])")),
            "config.layers[2].inbound_nodes[0][0][1]: must be 0, because a layer is called once "
            "and has one output, got 1");
  EXPECT_EQ(Refusal(Graph(kX, R"([[["a", 0, 0, {"training": true}]]])")),
            "config.layers[2].inbound_nodes[0][0][3].training: true is not supported");
  EXPECT_EQ(Refusal(Graph(kX, R"([{"args": [2.5], "kwargs": {}}])")),
            "config.layers[2].inbound_nodes[0].args[0]: must be the output of a layer, got 2.5");
  EXPECT_EQ(Refusal(Graph(kX, R"([{"args": [["a", 0, 0]], "kwargs": {"training": true}}])")),
            "config.layers[2].inbound_nodes[0].kwargs.training: true is not supported");
  EXPECT_EQ(Refusal(Graph(kX, kA, "[]")), "config.output_layers: must name a layer");
  EXPECT_EQ(Refusal(Graph(kX, kA, "null")), "config.output_layers: is required");
}

TEST(KerasRefusal, RefusesWhatIsNoModel) {
  EXPECT_EQ(Refusal("[]"), "the JSON: must be an object, got []");
  EXPECT_EQ(Refusal("{}"), "class_name: must be Sequential or Functional, got \"\"");
  EXPECT_EQ(Refusal(R"({"class_name": "Sequential"})"), "config: is required");
  EXPECT_EQ(Refusal(R"({"class_name": "Sequential", "config": 3})"),
            "config: must be an object, got 3");
  EXPECT_EQ(Refusal(R"({"class_name": "Sequential", "config": {"layers": []}})"),
            "config.layers: must be a list of 1 to 4096 layers, got 0");
  EXPECT_EQ(Refusal(R"({"class_name": "Sequential", "config": {"layers": [
                {"class_name": "Dense", "config": {"name": "a", "units": 1}}]}})"),
            "config.layers: the model has no input shape; give it an Input layer, or build it "
            "before to_json()");
}

// Every prefix of a model, and every single byte of it changed, is read or refused.
TEST(KerasRefusal, SurvivesDamage) {
  const std::string json = ReadKerasJson("graph");
  for (size_t i = 0; i + 2 < json.size(); i += 7) {
    EXPECT_FALSE(ModelFromKeras(json.substr(0, i)).ok()) << i;
  }
  for (size_t i = 0; i < json.size(); i += 5) {
    std::string damaged = json;
    damaged[i] = "\"{}[]0,:x"[i % 9];
    ModelFromKeras(damaged).IgnoreError();
  }
}

TEST(KerasRefusal, RefusesTheHugeAndTheDeepAtOnce) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Refusal(std::string(50 << 20, ' ')), "the JSON has 52428800 bytes; at most 3145728");
  EXPECT_NE(Refusal(std::string(10'000, '[')).find("more than 64 levels"), std::string::npos);
  std::string many = R"({"class_name": "Sequential", "config": {"layers": [0)";
  while (many.size() < kMaxKerasJsonBytes - 10) many += ",0";
  EXPECT_NE(Refusal(many + "]}}").find("a list of 1 to 4096 layers"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

}  // namespace
}  // namespace lockstep
