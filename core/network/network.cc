#include "core/network/network.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/data/tensor.h"
#include "core/layers/layer_table.h"
#include "core/network/orthogonal.h"
#include "core/network/row_layers.h"

namespace lockstep {
namespace {

constexpr int kMaxLayers = 4096;
constexpr int kMaxEdges = Network::kMaxInputs;  // inputs or outputs of a network
constexpr int64_t kAlignment = 16;              // floats: one cache line

absl::Status CheckShape(const std::string& path, const v1::Input& input) {
  const auto error = [&](auto... problem) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".shape: ", problem...));
  };
  if (input.shape().empty()) return error("is required, for example [28, 28, 1]");
  if (input.shape_size() > 3) {
    return error("must have one to three dimensions, got ", input.shape_size());
  }
  int64_t size = 1;
  for (int64_t dim : input.shape()) {
    if (dim < 1) return error("dimensions must be >= 1, got ", dim);
    if (dim > kMaxElements / size) {
      return error(ShapeString({input.shape().data(), static_cast<size_t>(input.shape_size())}),
                   " is too large; at most ", kMaxElements, " values a sample");
    }
    size *= dim;
  }
  return absl::OkStatus();
}

// Checks the inputs and fills in their defaults. Without any there is nothing to train.
absl::StatusOr<std::vector<NetworkInput>> CheckInputs(v1::ModelSpec* spec) {
  if (spec->inputs().empty()) {
    return absl::InvalidArgumentError(
        "model.inputs: must have at least one, for example [{\"shape\": [28, 28, 1]}]");
  }
  if (spec->inputs_size() > kMaxEdges) {
    return absl::InvalidArgumentError(absl::StrCat("model.inputs: must have at most ", kMaxEdges,
                                                   " inputs, got ", spec->inputs_size()));
  }
  std::vector<NetworkInput> inputs;
  int64_t begin = 0;
  for (int i = 0; i < spec->inputs_size(); ++i) {
    v1::Input& input = *spec->mutable_inputs(i);
    const std::string path = absl::StrCat("model.inputs[", i, "]");
    if (auto s = CheckShape(path, input); !s.ok()) return s;
    if (!input.has_scale()) input.set_scale(1.0f);
    if (!std::isfinite(input.scale()) || !std::isfinite(input.offset())) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".scale: scale and offset must be finite, got ", input.scale(),
                       " and ", input.offset()));
    }
    if (input.name().empty()) input.set_name(i == 0 ? "input" : absl::StrCat("input_", i));
    Shape shape({input.shape().begin(), input.shape().end()});
    const int64_t size = shape.size();
    if (size > kMaxElements - begin) {
      return absl::InvalidArgumentError(absl::StrCat(path, ".shape: the inputs have more than ",
                                                     kMaxElements, " values a sample together"));
    }
    inputs.push_back({input.name(), std::move(shape), input.scale(), input.offset(), begin});
    begin += size;
  }
  return inputs;
}

const LayerKind* FindKind(v1::Layer::KindCase kind) {
  const std::span<const LayerKind> kinds = LayerKinds();
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const LayerKind& k) { return k.kind == kind; });
  return found == kinds.end() ? nullptr : &*found;
}

// A dot ends a layer's name in its tensors' names.
bool ValidName(absl::string_view name) {
  return name.size() <= 128 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '_' || c == '-' || c == '/';
         });
}

// The values that a layer reads, by the names in its spec. `values`: of the layers before it, and
// of the input.
absl::StatusOr<std::vector<int>> FindInputs(const std::string& base, const LayerKind& kind,
                                            const v1::Layer& layer, int index,
                                            const std::map<std::string, int>& values) {
  std::vector<int> inputs;
  for (int i = 0; i < layer.inputs_size(); ++i) {
    const auto found = values.find(layer.inputs(i));
    if (found == values.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(base, ".inputs[", i, "]: \"", layer.inputs(i),
                       "\" is not the name of an input nor of a layer before this one"));
    }
    if (std::find(inputs.begin(), inputs.end(), found->second) != inputs.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(base, ".inputs[", i, "]: \"", layer.inputs(i), "\" stands there twice"));
    }
    inputs.push_back(found->second);
  }
  if (inputs.empty()) inputs.push_back(index);
  if (kind.merges ? inputs.size() < 2 || inputs.size() > Network::kMaxInputs : inputs.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        base, ".inputs: ", kind.name, " takes ",
        kind.merges ? absl::StrCat("2 to ", Network::kMaxInputs, " inputs") : "one input", ", got ",
        inputs.size()));
  }
  return inputs;
}

// Every value must be read or be an output.
absl::Status CheckAllRead(const v1::ModelSpec& spec, std::span<const Network::Node> nodes,
                          std::span<const NetworkOutput> outputs) {
  std::vector<bool> read(nodes.size() + 1);
  for (const NetworkOutput& output : outputs) read[output.node + 1] = true;
  read.back() = read.back() || outputs.size() > 1;  // the row of all of them
  for (const Network::Node& node : nodes) {
    for (int value : node.inputs) read[value] = true;
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (read[i + 1]) continue;
    if (nodes[i].path.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.inputs[", i, "]: no layer reads \"", nodes[i].name, "\""));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        nodes[i].path, ": no layer reads the output of \"", nodes[i].name,
        "\", and it is not among the network's outputs, ", absl::StrJoin(spec.outputs(), ", ")));
  }
  return absl::OkStatus();
}

// Nodes at the network's edges have no spec.
Network::Node EdgeNode(std::string name, std::unique_ptr<const Layer> layer,
                       std::vector<int> inputs, const Network& network) {
  Shape output = layer->output_shape();
  return {.name = std::move(name),
          .path = "",
          .layer = std::move(layer),
          .inputs = std::move(inputs),
          .output = std::move(output),
          .trainable = false,
          .first_parameter = static_cast<int>(network.parameters().size()),
          .parameter_count = 0,
          .first_buffer = static_cast<int>(network.buffers().size()),
          .buffer_count = 0};
}

// An initializer of matrices needs one, and not too large a one.
absl::Status CheckInitializerFits(const TensorSpec& spec, const Network::Node& node) {
  const int64_t rank = std::ssize(spec.shape);
  const int64_t size = ElementCount(spec.shape);
  const auto error = [&](absl::string_view needs) {
    return absl::InvalidArgumentError(absl::StrCat(node.path, ": the initializer of \"", node.name,
                                                   ".", spec.name, "\" needs ", needs, ", got ",
                                                   ShapeString(spec.shape)));
  };
  if (spec.initializer.has_identity() && rank != 2) return error("two dimensions");
  if (!spec.initializer.has_orthogonal()) return absl::OkStatus();
  if (rank < 2) return error("two dimensions or more");
  const int64_t columns = spec.shape.back();
  if (size > kMaxOrthogonalValues ||
      std::min(size / columns, columns) > kMaxOrthogonalWork / size) {
    return error(absl::StrCat("at most ", kMaxOrthogonalValues, " values and rows * columns * the ",
                              "lesser of them at most ", kMaxOrthogonalWork));
  }
  return absl::OkStatus();
}

// Appends a layer's tensors to the list of all.
absl::Status Append(const std::vector<TensorSpec>& specs, const Network::Node& node,
                    std::vector<NetworkTensor>* tensors, int64_t* total) {
  for (const TensorSpec& spec : specs) {
    if (auto s = CheckInitializerFits(spec, node); !s.ok()) return s;
    const int64_t size = ElementCount(spec.shape);
    tensors->push_back(
        {absl::StrCat(node.name, ".", spec.name), spec, node.trainable, *total, size});
    *total += (size + kAlignment - 1) / kAlignment * kAlignment;
    if (*total > kMaxElements) {
      return absl::InvalidArgumentError(
          absl::StrCat(node.path, ": with \"", node.name, "\" the model has ", *total,
                       " values in its parameters or buffers; at most ", kMaxElements));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Network> Network::Build(v1::ModelSpec* spec) {
  Network network;
  auto inputs = CheckInputs(spec);
  if (!inputs.ok()) return inputs.status();
  network.inputs_ = *std::move(inputs);
  if (spec->layers().empty()) {
    return absl::InvalidArgumentError("model.layers: must have at least one layer");
  }
  if (spec->layers_size() > kMaxLayers) {
    return absl::InvalidArgumentError(absl::StrCat("model.layers: must have at most ", kMaxLayers,
                                                   " layers, got ", spec->layers_size()));
  }

  std::map<absl::string_view, int> kind_count;  // of layers without a name of their own
  std::map<std::string, int> values;
  if (auto s = network.AddInputs(&values); !s.ok()) return s;
  const int edge = static_cast<int>(network.nodes_.size());
  std::vector<bool> is_input(edge + 1, true);  // by value; also of an input that is rescaled
  for (int i = 0; i < spec->layers_size(); ++i) {
    v1::Layer* layer = spec->mutable_layers(i);
    const std::string base = absl::StrCat("model.layers[", i, "]");
    const LayerKind* kind = FindKind(layer->kind_case());
    if (kind == nullptr) {
      std::string known;
      for (const LayerKind& k : LayerKinds())
        absl::StrAppend(&known, known.empty() ? "" : ", ", k.name);
      return absl::InvalidArgumentError(absl::StrCat(base, ": must be one of ", known));
    }
    if (layer->name().empty()) {
      const int number = kind_count[kind->name]++;
      layer->set_name(number == 0 ? std::string(kind->name)
                                  : absl::StrCat(kind->name, "_", number));
    }
    if (!layer->has_trainable()) layer->set_trainable(true);
    if (!ValidName(layer->name())) {
      return absl::InvalidArgumentError(
          absl::StrCat(base, ".name: must be 1 to 128 characters of A-Z a-z 0-9 _ - /"));
    }
    auto inputs = FindInputs(base, *kind, *layer, i == 0 ? (edge > 0 ? 1 : 0) : edge + i, values);
    if (!inputs.ok()) return inputs.status();
    if (!values.emplace(layer->name(), edge + i + 1).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          base, ".name: \"", layer->name(), "\" is the name of another layer or of an input"));
    }

    const std::string path = absl::StrCat(base, ".", kind->name);
    std::vector<Shape> shapes;
    for (int value : *inputs) shapes.push_back(network.shape(value));
    const bool reads_input = is_input[inputs->front()];
    is_input.push_back(reads_input && layer->has_rescaling());
    auto built = kind->build({path, layer->name(), i, std::move(shapes), reads_input}, layer);
    if (!built.ok()) return built.status();
    Node node = {.name = layer->name(),
                 .path = path,
                 .layer = *std::move(built),
                 .inputs = *std::move(inputs),
                 .output = {},
                 .trainable = false,
                 .first_parameter = static_cast<int>(network.parameters_.size()),
                 .parameter_count = 0,
                 .first_buffer = static_cast<int>(network.buffers_.size()),
                 .buffer_count = 0};
    node.output = node.layer->output_shape();
    node.trainable = layer->trainable() && !node.layer->parameters().empty();
    if (node.output.channels() > kMaxElements / node.output.positions()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": output ", ShapeString(node.output.dims()), " of \"", node.name,
                       "\" is too large; at most ", kMaxElements, " values a sample"));
    }
    if (auto s =
            Append(node.layer->parameters(), node, &network.parameters_, &network.parameters_size_);
        !s.ok()) {
      return s;
    }
    if (auto s = Append(node.layer->buffers(), node, &network.buffers_, &network.buffers_size_);
        !s.ok()) {
      return s;
    }
    node.parameter_count = static_cast<int>(network.parameters_.size()) - node.first_parameter;
    node.buffer_count = static_cast<int>(network.buffers_.size()) - node.first_buffer;
    network.nodes_.push_back(std::move(node));
  }
  if (auto s = network.AddOutputs(edge, spec); !s.ok()) return s;
  if (auto s = CheckAllRead(*spec, network.nodes_, network.outputs_); !s.ok()) return s;
  return network;
}

// Names the values of the inputs; several are slices of a row.
absl::Status Network::AddInputs(std::map<std::string, int>* values) {
  const int64_t size = inputs_.back().begin + inputs_.back().shape.size();
  input_ = inputs_.size() == 1 ? inputs_[0].shape : Shape({size});
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const NetworkInput& input = inputs_[i];
    if (inputs_.size() > 1) {
      nodes_.push_back(
          EdgeNode(input.name, MakeRowSlice(input.shape, input.begin, size), {0}, *this));
    }
    if (!values->emplace(input.name, nodes_.size()).second) {
      return absl::InvalidArgumentError(absl::StrCat("model.inputs[", i, "].name: \"", input.name,
                                                     "\" is the name of another input"));
    }
  }
  return absl::OkStatus();
}

// `first`: node of the first layer of the spec.
absl::Status Network::AddOutputs(int first, v1::ModelSpec* spec) {
  if (spec->outputs().empty()) spec->add_outputs(nodes_.back().name);
  if (spec->outputs_size() > kMaxEdges) {
    return absl::InvalidArgumentError(absl::StrCat("model.outputs: must have at most ", kMaxEdges,
                                                   " outputs, got ", spec->outputs_size()));
  }
  int64_t begin = 0;
  std::vector<Shape> shapes;
  std::vector<int> values;
  for (int o = 0; o < spec->outputs_size(); ++o) {
    const std::string& name = spec->outputs(o);
    const auto named = [&](const Node& node) { return node.name == name; };
    const auto found = std::find_if(nodes_.begin() + first, nodes_.end(), named);
    const int node = static_cast<int>(found - nodes_.begin());
    if (found == nodes_.end() || std::ranges::count(values, node + 1) > 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model.outputs[", o, "]: \"", name, "\" ",
          found == nodes_.end() ? "is not the name of a layer" : "stands there twice"));
    }
    if (found->output.size() > kMaxElements - begin) {
      return absl::InvalidArgumentError(absl::StrCat("model.outputs[", o,
                                                     "]: the outputs have more than ", kMaxElements,
                                                     " values a sample together"));
    }
    outputs_.push_back({name, found->output, node, begin});
    begin += found->output.size();
    shapes.push_back(found->output);
    values.push_back(node + 1);
  }
  if (outputs_.size() > 1) {
    nodes_.push_back(EdgeNode("outputs", MakeRowJoin(shapes), std::move(values), *this));
  }
  return absl::OkStatus();
}

std::vector<bool> Network::AtOutputs(const std::vector<bool>& flags) const {
  std::vector<bool> at(nodes_.size());
  for (size_t o = 0; o < outputs_.size(); ++o) at[outputs_[o].node] = flags[o];
  return at;
}

void Network::ScaleInputs(const kernels::KernelTable& kernels, int64_t samples, const float* raw,
                          float* x) const {
  if (inputs_.size() == 1) {
    const NetworkInput& input = inputs_[0];
    kernels.scale_float(raw, samples * input_.size(), input.scale, input.offset, x);
    return;
  }
  for (int64_t n = 0; n < samples; ++n) {
    for (const NetworkInput& input : inputs_) {
      const int64_t at = n * input_.size() + input.begin;
      kernels.scale_float(raw + at, input.shape.size(), input.scale, input.offset, x + at);
    }
  }
}

std::vector<FlatRange> Network::trainable_ranges() const {
  std::vector<FlatRange> ranges;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].trainable) continue;
    const int64_t begin = parameters_[i].offset;
    const int64_t end = i + 1 < parameters_.size() ? parameters_[i + 1].offset : parameters_size_;
    if (!ranges.empty() && ranges.back().end == begin) {
      ranges.back().end = end;
    } else {
      ranges.push_back({begin, end});
    }
  }
  return ranges;
}

bool Network::of_rows(int i) const {
  const Node& node = nodes_[i];
  return node.output.positions() == 1 &&
         std::all_of(node.inputs.begin(), node.inputs.end(),
                     [&](int value) { return shape(value).positions() == 1; });
}

}  // namespace lockstep
