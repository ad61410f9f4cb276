#ifndef LOCKSTEP_CORE_TRAINING_OPTIMIZER_CHECKS_H_
#define LOCKSTEP_CORE_TRAINING_OPTIMIZER_CHECKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/network/network.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Checks how the parameters are trained (optimizer, schedule, decay, clipping, early stopping,
// average, augmentation) and fills in the defaults. INVALID_ARGUMENT with the field's path, the
// value and what is allowed. `validates`: the job has validation data. Losses and metrics have been
// checked.
absl::Status CheckOptimization(const Network& network, bool validates, int64_t total_steps,
                               v1::TrainingSpec* training);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_OPTIMIZER_CHECKS_H_
