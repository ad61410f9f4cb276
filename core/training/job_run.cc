#include "core/training/job_run.h"

#include "core/training/population_statistics.h"
#include "core/training/trainer.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<JobRun>> StartJob(const JobPlan& plan, const LabelledData& train,
                                                 const std::optional<LabelledData>& validation,
                                                 ThreadPool* pool,
                                                 std::string_view initial_weights) {
  if (plan.spec.has_population_statistics()) {
    return PopulationStatistics::Create(plan, train.x, pool, initial_weights);
  }
  return Trainer::Create(plan, train, validation, pool, initial_weights);
}

}  // namespace lockstep
