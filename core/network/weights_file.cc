#include "core/network/weights_file.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/data/tensor.h"
#include "core/formats/safetensors.h"
#include "core/numerics/contract.h"

namespace lockstep {
namespace {

constexpr char kBatchNormConvention[] =
    "momentum weighs the old value; y = gamma * (x - moving_mean) / sqrt(moving_variance + "
    "epsilon) "
    "+ beta; moving_variance is of population variances (convention keras) or of unbiased ones "
    "(pytorch), as the model's layers say";

// Calls body(tensor, its values) for the parameters, then the buffers.
template <typename T, typename Body>
void ForTensors(const Network& network, std::span<T> parameters, std::span<T> buffers, Body body) {
  for (const NetworkTensor& t : network.parameters()) body(t, parameters.subspan(t.offset, t.size));
  for (const NetworkTensor& t : network.buffers()) body(t, buffers.subspan(t.offset, t.size));
}

}  // namespace

std::string WriteWeights(const Network& network, const v1::ModelSpec& spec, int64_t step,
                         std::span<const float> parameters, std::span<const float> buffers) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // A message that was built or parsed always prints.
  (void)google::protobuf::util::MessageToJsonString(spec, &json, options);
  std::vector<FloatTensorView> tensors;
  ForTensors(network, parameters, buffers, [&](const NetworkTensor& t, std::span<const float> v) {
    tensors.push_back({t.name, t.spec.shape, v});
  });
  return WriteSafetensors({{"format", "lockstep"},
                           {"contract", kContract},
                           {"step", absl::StrCat(step)},
                           {"model", json},
                           {"batch_normalization", kBatchNormConvention}},
                          tensors);
}

absl::Status ReadWeights(const Network& network, std::string_view file, std::span<float> parameters,
                         std::span<float> buffers) {
  auto read = ReadSafetensors(file);
  if (!read.ok()) return read.status();
  std::map<std::string, const FloatTensorView*> left;
  for (const FloatTensorView& tensor : read->tensors) left[tensor.name] = &tensor;
  std::string problems;
  ForTensors(network, parameters, buffers, [&](const NetworkTensor& t, std::span<float> values) {
    const auto found = left.find(t.name);
    if (found == left.end()) {
      absl::StrAppend(&problems, "; ", t.name, " is missing");
      return;
    }
    if (found->second->shape != t.spec.shape) {
      absl::StrAppend(&problems, "; ", t.name, " is ", ShapeString(found->second->shape), ", not ",
                      ShapeString(t.spec.shape));
    } else {
      std::copy(found->second->values.begin(), found->second->values.end(), values.begin());
    }
    left.erase(found);
  });
  for (const auto& [name, tensor] : left) {
    absl::StrAppend(&problems, "; ", name, " belongs to no layer");
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("weights do not fit the model: ", problems.substr(2)));
}

}  // namespace lockstep
