#ifndef LOCKSTEP_CORE_NETWORK_INITIAL_WEIGHTS_H_
#define LOCKSTEP_CORE_NETWORK_INITIAL_WEIGHTS_H_

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "core/network/network.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Checks naming and layers: INVALID_ARGUMENT with the field's path.
absl::Status CheckInitialWeights(const Network& network, const v1::InitialWeights& initial);

// Overwrites what `initial`, which must have been checked, says with the values in `file`, a
// safetensors file. Buffers whose values the spec gives may be missing, as from Keras' files.
// INVALID_ARGUMENT lists every other tensor that is missing, left over, of another shape or with
// values that are not finite. `file` must start 4-byte aligned.
absl::Status ReadInitialWeights(const Network& network, const v1::ModelSpec& spec,
                                const v1::InitialWeights& initial, std::string_view file,
                                std::span<float> parameters, std::span<float> buffers);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_INITIAL_WEIGHTS_H_
