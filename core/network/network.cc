#include "core/network/network.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "core/data/tensor.h"
#include "core/layers/layer_table.h"
#include "core/network/orthogonal.h"

namespace lockstep {
namespace {

constexpr int kMaxLayers = 4096;
constexpr int64_t kAlignment = 16;  // floats: one cache line

absl::Status InputError(absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("model.inputs[0].", field, ": ", problem));
}

absl::StatusOr<Shape> CheckInput(v1::Input* input) {
  if (input->shape().empty()) return InputError("shape", "is required, for example [28, 28, 1]");
  if (input->shape_size() > 3) {
    return InputError("shape",
                      absl::StrCat("must have one to three dimensions, got ", input->shape_size()));
  }
  int64_t size = 1;
  for (int64_t dim : input->shape()) {
    if (dim < 1) return InputError("shape", absl::StrCat("dimensions must be >= 1, got ", dim));
    if (dim > kMaxElements / size) {
      return InputError("shape",
                        absl::StrCat(ShapeString({input->shape().data(),
                                                  static_cast<size_t>(input->shape_size())}),
                                     " is too large; at most ", kMaxElements, " values a sample"));
    }
    size *= dim;
  }
  if (!input->has_scale()) input->set_scale(1.0f);
  if (!std::isfinite(input->scale()) || !std::isfinite(input->offset())) {
    return InputError("scale", absl::StrCat("scale and offset must be finite, got ", input->scale(),
                                            " and ", input->offset()));
  }
  if (input->name().empty()) input->set_name("input");
  return Shape({input->shape().begin(), input->shape().end()});
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
                       "\" is not the input's name nor that of a layer before this one"));
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

// Every output but the last must be read.
absl::Status CheckAllRead(std::span<const Network::Node> nodes) {
  std::vector<bool> read(nodes.size() + 1);
  for (const Network::Node& node : nodes) {
    for (int value : node.inputs) read[value] = true;
  }
  for (size_t i = 0; i + 1 < nodes.size(); ++i) {
    if (read[i + 1]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(nodes[i].path, ": no layer reads the output of \"", nodes[i].name,
                     "\"; only the last layer's is the network's output"));
  }
  return absl::OkStatus();
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
    tensors->push_back({absl::StrCat(node.name, ".", spec.name), spec, *total, size});
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
  if (spec->inputs_size() != 1 || spec->outputs_size() > 1) {
    return absl::InvalidArgumentError("model.inputs: must have one input and one output");
  }
  auto input = CheckInput(spec->mutable_inputs(0));
  if (!input.ok()) return input.status();
  network.input_ = *input;
  network.scale_ = spec->inputs(0).scale();
  network.offset_ = spec->inputs(0).offset();
  if (spec->layers().empty()) {
    return absl::InvalidArgumentError("model.layers: must have at least one layer");
  }
  if (spec->layers_size() > kMaxLayers) {
    return absl::InvalidArgumentError(absl::StrCat("model.layers: must have at most ", kMaxLayers,
                                                   " layers, got ", spec->layers_size()));
  }

  std::map<absl::string_view, int> kind_count;  // of layers without a name of their own
  std::map<std::string, int> values = {{spec->inputs(0).name(), 0}};
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
    if (!ValidName(layer->name())) {
      return absl::InvalidArgumentError(
          absl::StrCat(base, ".name: must be 1 to 128 characters of A-Z a-z 0-9 _ - /"));
    }
    auto inputs = FindInputs(base, *kind, *layer, i, values);
    if (!inputs.ok()) return inputs.status();
    if (!values.emplace(layer->name(), i + 1).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          base, ".name: \"", layer->name(), "\" is the name of another layer or of the input"));
    }

    const std::string path = absl::StrCat(base, ".", kind->name);
    std::vector<Shape> shapes;
    for (int value : *inputs) shapes.push_back(network.shape(value));
    auto built = kind->build({path, layer->name(), i, std::move(shapes)}, layer);
    if (!built.ok()) return built.status();
    Node node = {.name = layer->name(),
                 .path = path,
                 .layer = *std::move(built),
                 .inputs = *std::move(inputs),
                 .output = {},
                 .first_parameter = static_cast<int>(network.parameters_.size()),
                 .parameter_count = 0,
                 .first_buffer = static_cast<int>(network.buffers_.size()),
                 .buffer_count = 0};
    node.output = node.layer->output_shape();
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
  if (auto s = CheckAllRead(network.nodes_); !s.ok()) return s;
  return network;
}

bool Network::of_rows(int i) const {
  const Node& node = nodes_[i];
  return node.output.positions() == 1 &&
         std::all_of(node.inputs.begin(), node.inputs.end(),
                     [&](int value) { return shape(value).positions() == 1; });
}

}  // namespace lockstep
