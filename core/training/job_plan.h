#ifndef LOCKSTEP_CORE_TRAINING_JOB_PLAN_H_
#define LOCKSTEP_CORE_TRAINING_JOB_PLAN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/numerics/contract.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// A job that has been checked: training it cannot fail for a reason that its spec and the shapes of
// its data could have told.
struct JobPlan {
  v1::JobSpec spec;         // every default filled in
  std::string fingerprint;  // see job.proto
  // With a validation split they are the first and the last of the training set's samples.
  int64_t train_samples = 0;
  int64_t validation_samples = 0;  // 0: no validation
  int64_t steps_per_epoch = 0;
  int64_t total_steps = 0;
  int64_t memory_bytes = 0;  // estimate of what a worker allocates for it
};

// Checks everything about a job but the values of its data. `validation` is null when the spec
// names none. INVALID_ARGUMENT with the field's path, the value and what is allowed;
// RESOURCE_EXHAUSTED with the estimate when it would need more than `max_memory_bytes`. Allocates
// nothing large, whatever the spec says.
absl::StatusOr<JobPlan> PlanJob(const v1::JobSpec& spec, const v1::Dataset& train,
                                const v1::Dataset* validation, int64_t max_memory_bytes);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_JOB_PLAN_H_
