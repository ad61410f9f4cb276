#include "core/network/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/data/tensor.h"
#include "core/formats/safetensors.h"
#include "core/network/weights_naming.h"

namespace lockstep {
namespace {

// PyTorch counts batches in every BatchNorm, we only where the count matters; Keras counts what a
// Normalization has seen.
bool IsCounter(WeightsNaming naming, std::string_view name) {
  return (naming == WeightsNaming::kPyTorch && name.ends_with(".num_batches_tracked")) ||
         (naming == WeightsNaming::kKeras && name.ends_with("/count"));
}

struct FileTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> converted;  // of integers
  std::span<const float> values;
};

}  // namespace

absl::Status CheckInitialWeights(const Network& network, const v1::InitialWeights& initial) {
  if (!ParseWeightsNaming(initial.naming())) {
    return absl::InvalidArgumentError(
        absl::StrCat("initial_weights.naming: must be lockstep, keras or pytorch; got \"",
                     initial.naming(), "\""));
  }
  for (int i = 0; i < initial.layers_size(); ++i) {
    const auto named = [&](const Network::Node& node) {
      return node.name == initial.layers(i) && node.parameter_count + node.buffer_count > 0;
    };
    if (std::ranges::none_of(network.nodes(), named)) {
      return absl::InvalidArgumentError(absl::StrCat("initial_weights.layers[", i,
                                                     "]: the model has no layer \"",
                                                     initial.layers(i), "\" with weights"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadInitialWeights(const Network& network, const v1::ModelSpec& spec,
                                const v1::InitialWeights& initial, std::string_view file,
                                std::span<float> parameters, std::span<float> buffers) {
  auto read = ReadSafetensors(file);
  if (!read.ok()) return read.status();
  const WeightsNaming naming = *ParseWeightsNaming(initial.naming());
  std::string problems;
  std::map<std::string, FileTensor> left;
  const auto add = [&](const std::string& name, FileTensor tensor) {
    if (!left.emplace(ComparableName(naming, name), std::move(tensor)).second) {
      absl::StrAppend(&problems, "; ", name, " means the same tensor as another");
    }
  };
  for (const FloatTensorView& tensor : read->tensors) {
    add(tensor.name, {tensor.name, tensor.shape, {}, tensor.values});
  }
  for (const IntegerTensor& tensor : read->integers) {
    add(tensor.name, {tensor.name, tensor.shape, {tensor.values.begin(), tensor.values.end()}, {}});
  }

  const std::vector<StoredTensor> stored = StoredTensors(network, spec, naming);
  const auto take = [&](const NetworkTensor& tensor, const StoredTensor& place,
                        std::span<float> flat) {
    const auto found = left.find(place.name);
    if (found == left.end()) {
      if (!tensor.spec.values.empty()) return;
      absl::StrAppend(&problems, "; ", place.name, " is missing");
      return;
    }
    const FileTensor& stands = found->second;
    const std::span<const float> values =
        stands.converted.empty() ? stands.values : std::span(stands.converted);
    if (stands.shape != place.shape) {
      absl::StrAppend(&problems, "; ", stands.name, " is ", ShapeString(stands.shape), ", not ",
                      ShapeString(place.shape));
    } else if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) {
      absl::StrAppend(&problems, "; ", stands.name, " has values that are not finite");
    } else {
      place.CopyFrom(values, flat.subspan(tensor.offset, tensor.size));
    }
    left.erase(found);
  };
  for (const Network::Node& node : network.nodes()) {
    const bool wanted = initial.layers().empty() ||
                        std::ranges::find(initial.layers(), node.name) != initial.layers().end();
    if (!wanted) continue;
    for (int p = node.first_parameter; p < node.first_parameter + node.parameter_count; ++p) {
      take(network.parameters()[p], stored[p], parameters);
    }
    for (int b = node.first_buffer; b < node.first_buffer + node.buffer_count; ++b) {
      take(network.buffers()[b], stored[network.parameters().size() + b], buffers);
    }
  }
  for (const auto& [name, tensor] : left) {
    if (!initial.layers().empty()) break;  // the others' tensors may be there
    if (IsCounter(naming, name)) continue;
    absl::StrAppend(&problems, "; ", tensor.name, " belongs to no layer");
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("initial_weights: they do not fit the model: ", problems.substr(2)));
}

}  // namespace lockstep
