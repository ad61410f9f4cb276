#ifndef LOCKSTEP_TESTS_CORE_NETWORK_NETWORKS_H_
#define LOCKSTEP_TESTS_CORE_NETWORK_NETWORKS_H_

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/network/network.h"
#include "tests/core/parse_json.h"

namespace lockstep {

inline Network BuildNetwork(const std::string& json) {
  auto spec = ParseJson<v1::ModelSpec>(json);
  auto network = Network::Build(&spec);
  EXPECT_TRUE(network.ok()) << network.status() << json;
  return *std::move(network);
}

// Two residual blocks, the second with a projection; three layers read "one".
inline const char* const kResidualNetwork = R"({"inputs": [{"shape": [6, 5, 3]}], "layers": [
    {"name": "conv", "conv2d": {"filters": 4, "kernel_size": [3], "padding": "same"}},
    {"name": "bn", "batch_normalization": {}},
    {"name": "one", "activation": {"activation": "relu"}},
    {"name": "a1", "conv2d": {"filters": 4, "kernel_size": [3], "padding": "same",
                              "activation": "tanh"}},
    {"name": "a2", "conv2d": {"filters": 4, "kernel_size": [3], "padding": "same"}},
    {"name": "a3", "batch_normalization": {}},
    {"name": "sum", "add": {}, "inputs": ["a3", "one"]},
    {"name": "two", "activation": {"activation": "relu"}},
    {"name": "b1", "conv2d": {"filters": 6, "kernel_size": [3], "strides": [2], "padding": "same",
                              "use_bias": false}, "inputs": ["two"]},
    {"name": "b2", "batch_normalization": {}},
    {"name": "projection", "conv2d": {"filters": 6, "kernel_size": [1], "strides": [2]},
     "inputs": ["two"]},
    {"name": "other", "conv2d": {"filters": 6, "kernel_size": [2], "strides": [2],
                                 "padding": "same"}, "inputs": ["one"]},
    {"name": "sum2", "add": {}, "inputs": ["b2", "projection", "other"]},
    {"global_average_pooling2d": {}},
    {"dense": {"units": 4, "activation": "softmax"}}]})";

// Convolutions, pooling, and what moves or joins values; the first layers need no gradient of their
// input.
inline const char* const kShapesNetwork = R"({"inputs": [{"shape": [6, 5, 3]}], "layers": [
    {"name": "separable", "separable_conv2d": {"filters": 4, "kernel_size": [3],
                                               "padding": "same", "activation": "tanh"}},
    {"name": "depthwise", "depthwise_conv2d": {"kernel_size": [3], "depth_multiplier": 2,
                                               "padding": "same"}, "inputs": ["input"]},
    {"name": "both", "concatenate": {}, "inputs": ["separable", "depthwise"]},
    {"spatial_dropout2d": {"rate": 0.2}},
    {"name": "norm", "batch_normalization": {}},
    {"name": "squeeze", "global_average_pooling2d": {"keepdims": true}},
    {"name": "gate", "reshape": {"target_shape": [10]}},
    {"zero_padding2d": {}, "inputs": ["norm"]},
    {"average_pooling2d": {"pool_size": [2, 3], "padding": "same"}},
    {"reshape": {"target_shape": [-1, 10]}}, {"permute": {"dims": [2, 1]}},
    {"conv1d": {"filters": 10, "kernel_size": 3, "padding": "causal", "activation": "silu"}},
    {"gaussian_noise": {"stddev": 0.1}},
    {"max_pooling1d": {"padding": "same"}}, {"name": "top", "global_max_pooling1d": {}},
    {"separable_conv2d": {"filters": 10, "kernel_size": [2], "activation": "gelu"},
     "inputs": ["norm"]},
    {"name": "most", "global_max_pooling2d": {}},
    {"multiply": {}, "inputs": ["gate", "most", "top"]},
    {"dense": {"units": 4, "activation": "softmax"}}]})";

// Layers that keep something of a sample from forward to backward, on positions and on rows.
inline const char* const kNormalizedNetwork = R"({"inputs": [{"shape": [6, 5, 3]}], "layers": [
    {"rescaling": {"scale": 2, "offset": -0.5}},
    {"normalization": {"mean": [0.25], "variance": [1.5, 0.5, 4]}},
    {"conv2d": {"filters": 4, "kernel_size": [3], "activation": "gelu"}},
    {"name": "group", "group_normalization": {"groups": 2}},
    {"dense": {"units": 6, "activation": "silu"}},
    {"layer_normalization": {}},
    {"dense": {"units": 4}},
    {"normalization": {"mean": [-0.5], "variance": [2]}},
    {"activation": {"activation": "elu", "alpha": 0.5}},
    {"name": "sum", "add": {}, "inputs": ["activation", "group"]},
    {"layer_normalization": {"axis": [1, 2, 3]}},
    {"flatten": {}},
    {"dense": {"units": 7, "activation": "softplus"}},
    {"layer_normalization": {"center": false}},
    {"group_normalization": {"groups": 7, "scale": false}},
    {"activation": {"activation": "leaky_relu"}},
    {"dense": {"units": 4, "activation": "softmax"}}]})";

// A network of random layers, with one or two inputs and outputs: some stages of images, each a
// graph of values of one shape that become one in the end, then such a stage of rows.
inline std::string RandomNetwork(uint32_t seed) {
  std::mt19937 random(seed);
  const auto one_of = [&](std::initializer_list<const char*> options) {
    return std::string(options.begin()[random() % options.size()]);
  };
  std::string layers;
  int count = 0;
  // Adds a layer and returns its name.
  const auto layer = [&](const std::string& spec, const std::vector<std::string>& inputs) {
    const std::string name = "v" + std::to_string(count++);
    layers += std::string(layers.empty() ? "" : ",\n") + R"({"name": ")" + name + R"(", )" + spec +
              R"(, "inputs": [)";
    for (size_t i = 0; i < inputs.size(); ++i) {
      layers += (i == 0 ? "\"" : ", \"") + inputs[i] + "\"";
    }
    layers += "]}";
    return name;
  };
  const bool two_inputs = random() % 3 == 0;
  const auto stage = [&](const std::string& input, bool rows) {
    std::vector<std::string> values = {input};
    std::vector<std::string> unread = {};
    if (input == "input" && two_inputs) {
      values.push_back("other");
      unread = values;
    }
    const auto read = [&](const std::string& value) {
      std::erase(unread, value);
      return value;
    };
    for (int i = 1 + static_cast<int>(random() % 6); i > 0; --i) {
      // Mostly the last value, as in a chain.
      const auto any = [&] {
        return read(values[random() % 2 == 0 ? values.size() - 1 : random() % values.size()]);
      };
      std::vector<std::string> inputs = {any()};
      std::string spec = one_of(
          {"weights", R"("batch_normalization": {})", "add", "dropout",
           R"("activation": {"activation": "sigmoid"})", R"("activation": {"activation": "gelu"})",
           R"("layer_normalization": {})", R"("group_normalization": {"groups": 3})",
           R"("batch_normalization": {"center": false, "scale": false})"});
      if (spec == "dropout") spec = R"("dropout": {"rate": 0.3})";
      if (spec == "weights") {
        spec = rows || random() % 4 == 0
                   ? R"("dense": {"units": 3, )"
                   : R"("conv2d": {"filters": 3, "kernel_size": [3], "padding": "same", )";
        if (spec.starts_with("\"conv2d") && random() % 4 == 0) spec += R"("groups": 3, )";
        spec += R"("activation": ")" + one_of({"linear", "tanh", "silu"}) + "\"}";
      }
      if (spec == "add") {
        for (int more = 1 + static_cast<int>(random() % 2); more > 0; --more) {
          const std::string other = values[random() % values.size()];
          if (std::ranges::find(inputs, other) == inputs.end()) inputs.push_back(read(other));
        }
        spec = inputs.size() > 1 ? R"("add": {})" : R"("dropout": {"rate": 0.5})";
      }
      if (random() % 5 == 0) spec += R"(, "trainable": false)";
      values.push_back(layer(spec, inputs));
      unread.push_back(values.back());
    }
    return unread.size() == 1 ? unread[0] : layer(R"("add": {})", unread);
  };
  std::string value = "input";
  for (int i = 1 + static_cast<int>(random() % 3); i > 0; --i) {
    value = stage(value, false);
    if (i > 1) {
      value = layer(one_of({R"("max_pooling2d": {"pool_size": [3], "strides": [2]})",
                            R"("max_pooling2d": {"pool_size": [2], "strides": [1]})",
                            R"("conv2d": {"filters": 3, "kernel_size": [2], "strides": [2]})"}),
                    {value});
    }
  }
  value = layer(one_of({R"("global_average_pooling2d": {})", R"("flatten": {})"}), {value});
  value = layer(R"("dense": {"units": 3})", {value});
  std::string outputs = "\"" + stage(value, true) + "\"";
  // Perhaps another one, which others may read too.
  if (const int other = static_cast<int>(random() % (2 * count)); other < count - 1) {
    outputs += ", \"v" + std::to_string(other) + "\"";
  }
  return R"({"inputs": [{"shape": [9, 8, 3]})" +
         std::string(two_inputs ? R"(, {"shape": [9, 8, 3], "name": "other"})" : "") +
         R"(], "layers": [)" + layers + R"(], "outputs": [)" + outputs + "]}";
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_NETWORK_NETWORKS_H_
