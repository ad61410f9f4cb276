#include "core/network/weights_naming.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

// By node; null at the network's edges, which have no spec.
std::vector<const v1::Layer*> LayerSpecs(const Network& network, const v1::ModelSpec& spec) {
  std::vector<const v1::Layer*> layers;
  int next = 0;
  for (const Network::Node& node : network.nodes()) {
    layers.push_back(node.path.empty() ? nullptr : &spec.layers(next++));
  }
  return layers;
}

// By value: the image [.., C] whose values, flattened, are its features; empty for all others.
// PyTorch flattens with the channels first, so there these features stand in another order.
std::vector<std::vector<int64_t>> FlattenedImages(const Network& network,
                                                  std::span<const v1::Layer* const> layers) {
  std::vector<std::vector<int64_t>> images(network.nodes().size() + 1);
  for (size_t i = 0; i < network.nodes().size(); ++i) {
    if (layers[i] == nullptr) continue;
    const Network::Node& node = network.nodes()[i];
    const Shape& input = network.shape(node.inputs[0]);
    if (layers[i]->has_flatten()) {
      if (input.rank() > 1) images[i + 1].assign(input.dims().begin(), input.dims().end());
    } else if (!layers[i]->has_dense() && input == node.output) {
      images[i + 1] = images[node.inputs[0]];  // each feature by itself
    }
  }
  return images;
}

// PyTorch's name for a tensor of a layer.
std::string PyTorchName(std::string_view name) {
  if (name == "kernel" || name == "gamma") return "weight";
  if (name == "beta") return "bias";
  if (name == "moving_mean") return "running_mean";
  if (name == "moving_variance") return "running_var";
  return std::string(name);
}

// The channels of an image that was flattened, before its other axes.
void SplitFeatures(const std::vector<int64_t>& image, StoredTensor& stored) {
  const int rank = static_cast<int>(image.size());
  stored.dims.erase(stored.dims.begin());
  stored.dims.insert(stored.dims.begin(), image.begin(), image.end());
  // Where our first axis was: the channels, then the others.
  for (int& axis : stored.order) {
    if (axis > 0) axis += rank - 1;
  }
  const auto first = std::find(stored.order.begin(), stored.order.end(), 0);
  std::vector<int> axes = {rank - 1};
  for (int axis = 0; axis + 1 < rank; ++axis) axes.push_back(axis);
  const auto place = stored.order.erase(first);
  stored.order.insert(place, axes.begin(), axes.end());
}

StoredTensor PyTorchTensor(const v1::Layer& layer, const TensorSpec& spec,
                           const std::vector<int64_t>& image) {
  StoredTensor stored = {.name = {}, .shape = {}, .dims = spec.shape, .order = {}};
  const int rank = static_cast<int>(spec.shape.size());
  stored.order.resize(rank);
  std::iota(stored.order.begin(), stored.order.end(), 0);
  if (spec.name == "kernel" && layer.has_depthwise_conv2d()) {
    stored.order = {2, 3, 0, 1};  // [in, multiplier, kh, kw]
    stored.shape = {spec.shape[2] * spec.shape[3], 1, spec.shape[0], spec.shape[1]};
    return stored;
  }
  if (spec.name == "num_batches_tracked") return stored;  // a scalar
  if (spec.name.ends_with("kernel")) {
    // [.., in, out] -> [out, in, ..]
    std::rotate(stored.order.begin(), stored.order.end() - 2, stored.order.end());
    std::swap(stored.order[0], stored.order[1]);
  }
  for (int axis : stored.order) stored.shape.push_back(spec.shape[axis]);
  if (!image.empty()) SplitFeatures(image, stored);
  return stored;
}

}  // namespace

std::optional<WeightsNaming> ParseWeightsNaming(std::string_view name) {
  if (name.empty() || name == "lockstep") return WeightsNaming::kLockstep;
  if (name == "keras") return WeightsNaming::kKeras;
  if (name == "pytorch") return WeightsNaming::kPyTorch;
  return std::nullopt;
}

void StoredTensor::CopyFrom(std::span<const float> stored, std::span<float> values) const {
  // How far apart in the file the neighbours along each of our axes lie.
  std::vector<int64_t> strides(dims.size());
  int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    strides[*axis] = stride;
    stride *= dims[*axis];
  }
  std::vector<int64_t> index(dims.size());
  int64_t place = 0;
  for (float& value : values) {
    value = stored[place];
    for (size_t axis = dims.size(); axis-- > 0;) {
      place += strides[axis];
      if (++index[axis] < dims[axis]) break;
      place -= dims[axis] * strides[axis];
      index[axis] = 0;
    }
  }
}

std::vector<StoredTensor> StoredTensors(const Network& network, const v1::ModelSpec& spec,
                                        WeightsNaming naming) {
  const std::vector<const v1::Layer*> layers = LayerSpecs(network, spec);
  const std::vector<std::vector<int64_t>> images = FlattenedImages(network, layers);
  std::vector<StoredTensor> all(network.parameters().size() + network.buffers().size());
  const auto describe = [&](int i, const NetworkTensor& tensor, StoredTensor& stored) {
    const Network::Node& node = network.nodes()[i];
    std::string name = tensor.spec.name;
    const char* separator = ".";
    if (naming == WeightsNaming::kPyTorch) {
      const v1::Layer& layer = *layers[i];
      const bool features = layer.has_dense() ? name == "kernel" : tensor.size > 1;
      stored = PyTorchTensor(layer, tensor.spec,
                             features ? images[node.inputs[0]] : std::vector<int64_t>());
      name = PyTorchName(name);
    } else {
      stored = {.name = {}, .shape = tensor.spec.shape, .dims = tensor.spec.shape, .order = {}};
      stored.order.resize(stored.dims.size());
      std::iota(stored.order.begin(), stored.order.end(), 0);
      if (naming == WeightsNaming::kKeras) separator = "/";
    }
    stored.name = ComparableName(naming, absl::StrCat(node.name, separator, name));
  };
  for (int i = 0; i < std::ssize(network.nodes()); ++i) {
    const Network::Node& node = network.nodes()[i];
    for (int p = node.first_parameter; p < node.first_parameter + node.parameter_count; ++p) {
      describe(i, network.parameters()[p], all[p]);
    }
    for (int b = node.first_buffer; b < node.first_buffer + node.buffer_count; ++b) {
      describe(i, network.buffers()[b], all[network.parameters().size() + b]);
    }
  }
  return all;
}

std::string ComparableName(WeightsNaming naming, std::string_view name) {
  std::string comparable(name);
  const size_t dot = comparable.rfind('.');
  if (naming != WeightsNaming::kPyTorch || dot == std::string::npos) return comparable;
  for (size_t i = 0; i < dot; ++i) {
    if (comparable[i] == '.' || comparable[i] == '/') comparable[i] = '_';
  }
  return comparable;
}

}  // namespace lockstep
