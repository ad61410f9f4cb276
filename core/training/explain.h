#ifndef LOCKSTEP_CORE_TRAINING_EXPLAIN_H_
#define LOCKSTEP_CORE_TRAINING_EXPLAIN_H_

#include <optional>

#include "core/kernels/peaks.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// What a planned job will be: its layers with their shapes, parameters and arithmetic, its steps,
// the memory it takes, and, where `peaks` of a core are known, how long it takes with so many
// threads.
v1::ValidateJobResponse Explain(const JobPlan& plan, int threads,
                                const std::optional<Peaks>& peaks);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_EXPLAIN_H_
