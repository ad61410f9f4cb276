#ifndef LOCKSTEP_CORE_TRAINING_OUTPUT_CHECKS_H_
#define LOCKSTEP_CORE_TRAINING_OUTPUT_CHECKS_H_

#include "absl/status/status.h"
#include "core/network/network.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// What losses and metrics ask of the network's outputs. Fills in their defaults; INVALID_ARGUMENT
// with the field's path.
absl::Status CheckOutputs(const Network& network, v1::TrainingSpec* training);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_OUTPUT_CHECKS_H_
