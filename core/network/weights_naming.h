#ifndef LOCKSTEP_CORE_NETWORK_WEIGHTS_NAMING_H_
#define LOCKSTEP_CORE_NETWORK_WEIGHTS_NAMING_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/network/network.h"

namespace lockstep {

// Whose names and orders of axes a file of weights has; see InitialWeights in job.proto.
enum class WeightsNaming { kLockstep, kKeras, kPyTorch };

// Empty is "lockstep"; nothing for an unknown name.
std::optional<WeightsNaming> ParseWeightsNaming(std::string_view name);

// How a tensor of the network stands in a file.
struct StoredTensor {
  std::string name;            // as ComparableName gives it
  std::vector<int64_t> shape;  // in the file
  // Our tensor's dimensions, perhaps split further, and which of them the file's are, in order.
  std::vector<int64_t> dims;
  std::vector<int> order;

  // Both of the tensor's size.
  void CopyFrom(std::span<const float> stored, std::span<float> values) const;
};

// Of the parameters, then the buffers.
std::vector<StoredTensor> StoredTensors(const Network& network, const v1::ModelSpec& spec,
                                        WeightsNaming naming);

// A name of the file, such that what means the same tensor is the same text: PyTorch's dots between
// modules become underscores, as do slashes.
std::string ComparableName(WeightsNaming naming, std::string_view name);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_WEIGHTS_NAMING_H_
