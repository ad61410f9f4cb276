// What Network::Build refuses of a model's inputs and graph: each row a mistake that somebody will
// make, and the message's field path with what is wrong and what is allowed.

#include <gtest/gtest.h>

#include <string>

#include "tests/core/network/refusal.h"

namespace lockstep {
namespace {

TEST(BuildErrorTest, Input) {
  const auto with_input = [](const std::string& input) {
    return R"({"inputs":[)" + input + R"(],"layers":[{"flatten":{}},{"dense":{"units":1}}]})";
  };
  for (const Refusal& refusal : {
           Refusal{"{}", "model.inputs: must have at least one, for example"},
           Refusal{with_input("{}"), "model.inputs[0].shape: is required, for example [28, 28, 1]"},
           Refusal{with_input(R"({"shape":[2,2,2,2]})"),
                   "model.inputs[0].shape: must have one to three dimensions, got 4"},
           Refusal{with_input(R"({"shape":[28,0,1]})"),
                   "model.inputs[0].shape: dimensions must be >= 1, got 0"},
           Refusal{with_input(R"({"shape":[-3]})"),
                   "model.inputs[0].shape: dimensions must be >= 1, got -3"},
           Refusal{with_input(R"({"shape":[65536,65536,1]})"),
                   "model.inputs[0].shape: [65536, 65536, 1] is too large; at most 268435456"},
           // Products that do not even fit 64 bits.
           Refusal{with_input(R"({"shape":["4294967296","4294967296",3]})"),
                   "model.inputs[0].shape: [4294967296, 4294967296, 3] is too large"},
           Refusal{with_input(R"({"shape":["9223372036854775807","9223372036854775807"]})"),
                   "is too large"},
           Refusal{with_input(R"({"shape":[4],"scale":"Infinity"})"),
                   "model.inputs[0].scale: scale and offset must be finite"},
           Refusal{with_input(R"({"shape":[4],"offset":"NaN"})"),
                   "model.inputs[0].scale: scale and offset must be finite"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(BuildErrorTest, ListOfLayersAndNames) {
  std::string many = R"({"dropout":{}})";
  for (int i = 0; i < 4096; ++i) many += R"(,{"dropout":{}})";
  for (const Refusal& refusal : {
           Refusal{Flat(""), "model.layers: must have at least one layer"},
           Refusal{Flat(many), "model.layers: must have at most 4096 layers, got 4097"},
           Refusal{Flat(R"({"name":"a"})"),
                   "model.layers[0]: must be one of dense, conv2d, batch_normalization, "
                   "max_pooling2d, flatten, activation, dropout"},
           Refusal{Flat(R"({"dropout":{},"name":"a"},{"dropout":{},"name":"a"})"),
                   "model.layers[1].name: \"a\" is the name of another layer"},
           Refusal{Flat(R"({"dropout":{},"name":"dropout_1"},{"dropout":{}},{"dropout":{}})"),
                   "\"dropout_1\" is the name of another layer"},
           Refusal{Flat(R"({"dropout":{},"name":"a.b"})"),
                   "model.layers[0].name: must be 1 to 128 characters of A-Z a-z 0-9 _ - /"},
           Refusal{Flat(R"({"dropout":{},"name":"größe"})"), "model.layers[0].name: must be"},
           Refusal{Flat(R"({"dropout":{},"name":")" + std::string(129, 'a') + R"("})"),
                   "model.layers[0].name: must be"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(BuildErrorTest, Inputs) {
  // "a" is [8, 8, 3], "b" what is given.
  const auto after_a = [](const std::string& b) {
    return Image(R"({"name":"a","conv2d":{"filters":3,"kernelSize":[1]}},)" + b);
  };
  const auto add = [&](const std::string& inputs) {
    return after_a(R"({"name":"b","add":{},"inputs":[)" + inputs + "]}");
  };
  std::string many = R"("input")";
  std::string layers;
  for (int i = 0; i < 16; ++i) {
    layers += R"({"name":"d)" + std::to_string(i) + R"(","dropout":{},"inputs":["input"]},)";
    many += R"(,"d)" + std::to_string(i) + "\"";
  }
  for (const Refusal& refusal : {
           Refusal{after_a(R"({"dropout":{},"inputs":["A"]})"),
                   "model.layers[1].inputs[0]: \"A\" is not the name of an input nor of a layer "
                   "before this one"},
           Refusal{add(R"("a","c"]},{"name":"c","flatten":{},"inputs":["a")"),
                   "model.layers[1].inputs[1]: \"c\" is not the name of an input nor of a layer "
                   "before this one"},
           Refusal{add(R"("a","b")"), "model.layers[1].inputs[1]: \"b\" is not"},
           Refusal{add(R"("a","input","a")"),
                   "model.layers[1].inputs[2]: \"a\" stands there twice"},
           Refusal{add(""), "model.layers[1].inputs: add takes 2 to 16 inputs, got 1"},
           Refusal{add(R"("a")"), "model.layers[1].inputs: add takes 2 to 16 inputs, got 1"},
           Refusal{Image(layers + R"({"add":{},"inputs":[)" + many + "]}"),
                   "model.layers[16].inputs: add takes 2 to 16 inputs, got 17"},
           Refusal{after_a(R"({"dense":{"units":1},"inputs":["input","a"]})"),
                   "model.layers[1].inputs: dense takes one input, got 2"},
           Refusal{add(R"("a","input")"),
                   "model.layers[1].add: needs inputs of one shape, but \"b\" gets [8, 8, 3] and "
                   "[8, 8, 2]"},
           // The same number of values is not enough.
           Refusal{after_a(R"({"name":"b","flatten":{}},{"add":{},"inputs":["a","b"]})"),
                   "model.layers[2].add: needs inputs of one shape, but \"add\" gets [8, 8, 3] and "
                   "[192]"},
           Refusal{after_a(R"({"flatten":{},"inputs":["input"]})"),
                   "model.layers[0].conv2d: no layer reads the output of \"a\", and it is not "
                   "among the network's outputs, flatten"},
           Refusal{after_a(R"({"name":"input","flatten":{}})"),
                   "model.layers[1].name: \"input\" is the name of another layer or of an input"},
           Refusal{R"({"inputs":[{"shape":[4],"name":"pixels"}],"layers":[)"
                   R"({"name":"pixels","dense":{"units":1}}]})",
                   "model.layers[0].name: \"pixels\" is the name of another layer or of an input"},
           Refusal{R"({"inputs":[{"shape":[4],"name":"pixels"}],"layers":[)"
                   R"({"dense":{"units":1},"inputs":["input"]}]})",
                   "model.layers[0].inputs[0]: \"input\" is not the name of an input"},
           Refusal{Flat(R"({"globalAveragePooling2d":{}})"),
                   "model.layers[0].global_average_pooling2d: needs input [N, H, W, channels]"},
       }) {
    ExpectRefused(refusal);
  }
}

TEST(BuildErrorTest, InputsAndOutputsOfTheNetwork) {
  const auto two = [](const std::string& names, const std::string& layers,
                      const std::string& outputs) {
    return R"({"inputs":[{"shape":[4]},{"shape":[3],"name":)" + names + R"(}],"layers":[)" +
           layers + R"(],"outputs":[)" + outputs + "]}";
  };
  const std::string first = R"({"name":"a","dense":{"units":2}})";
  const std::string both = first + R"(,{"name":"b","dense":{"units":2},"inputs":["c"]})";
  for (const Refusal& refusal : {
           Refusal{two(R"("input")", both, ""),
                   "model.inputs[1].name: \"input\" is the name of another input"},
           Refusal{two(R"("c")", first, ""), "model.inputs[1]: no layer reads \"c\""},
           Refusal{two(R"("c")", both, ""),
                   "model.layers[0].dense: no layer reads the output of \"a\", and it is not "
                   "among the network's outputs, b"},
           Refusal{two(R"("c")", both, R"("a")"),
                   "model.layers[1].dense: no layer reads the output of \"b\""},
           Refusal{two(R"("c")", both, R"("a","c")"),
                   "model.outputs[1]: \"c\" is not the name of a layer"},
           Refusal{two(R"("c")", both, R"("a","b","a")"),
                   "model.outputs[2]: \"a\" stands there twice"},
           Refusal{R"({"inputs":[{"shape":[16384,16384]},{"shape":[1],"name":"c"}],"layers":[]})",
                   "model.inputs[1].shape: the inputs have more than 268435456 values a sample"},
       }) {
    ExpectRefused(refusal);
  }
}

// Refused by arithmetic: nothing of these sizes is ever allocated.
TEST(BuildErrorTest, ModelsTooLarge) {
  for (const Refusal& refusal : {
           Refusal{R"({"inputs":[{"shape":[16384]}],"layers":[{"dense":{"units":8192}},)"
                   R"({"dense":{"units":16384},"name":"straw"}]})",
                   "model.layers[1].dense: with \"straw\" the model has 268443648 values in its "
                   "parameters or buffers; at most 268435456"},
           Refusal{R"({"inputs":[{"shape":[2048,2048,1]}],"layers":[{"conv2d":{"filters":1024,)"
                   R"("kernelSize":[1]}}]})",
                   "model.layers[0].conv2d: output [2048, 2048, 1024] of \"conv2d\" is too large"},
       }) {
    ExpectRefused(refusal);
  }
}

}  // namespace
}  // namespace lockstep
