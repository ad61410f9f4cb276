#ifndef LOCKSTEP_CORE_NETWORK_WEIGHTS_FILE_H_
#define LOCKSTEP_CORE_NETWORK_WEIGHTS_FILE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "core/network/network.h"

namespace lockstep {

// Parameters and buffers as a safetensors file: "conv2d.kernel", "batch_normalization.gamma",
// "batch_normalization.moving_mean", ... in Keras' layouts, with metadata that says which BatchNorm
// convention they follow, at which step they were taken, and the model's spec as JSON.
std::string WriteWeights(const Network& network, const v1::ModelSpec& spec, int64_t step,
                         std::span<const float> parameters, std::span<const float> buffers);

// INVALID_ARGUMENT lists every tensor that is missing, left over or of another shape.
absl::Status ReadWeights(const Network& network, std::string_view file, std::span<float> parameters,
                         std::span<float> buffers);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_WEIGHTS_FILE_H_
