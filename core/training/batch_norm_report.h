#ifndef LOCKSTEP_CORE_TRAINING_BATCH_NORM_REPORT_H_
#define LOCKSTEP_CORE_TRAINING_BATCH_NORM_REPORT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "core/network/network.h"
#include "core/network/training_pass.h"
#include "lockstep/v1/event.pb.h"

// How the BatchNormalizations that learn stand after an epoch (core/README.md, rule 23).
namespace lockstep {

// After which epochs, for reports of weights, too. A report costs about two forward passes, so there
// is one after every epoch of kLeastSteps or more, and after the last; shorter epochs share one. A function of the numbers
// alone, so a resumed job reports where one that never stopped does.
class BatchNormSchedule {
 public:
  static constexpr int64_t kLeastSteps = 20;  // from report to report

  explicit BatchNormSchedule(int64_t steps_per_epoch);

  // `epoch` from 1; `last`: the job ends with it.
  bool Reports(int64_t epoch, bool last) const;
  // Whether a disagreement is told, of an epoch that Reports: at the second report, the 4th, the
  // 8th and so on, because the first comes before moving statistics can have followed, and at the
  // last.
  bool Warns(int64_t epoch, bool last) const;

 private:
  const int64_t epochs_;  // from report to report
};

// Runs the step's batch forward again, twice, with these weights: normalised by its own statistics,
// and by the moving ones; all else as in training. `loss` gives the loss of what the pass has just
// computed. None when no layer follows statistics, and when a statistic or the training loss is not
// finite. Epoch and step are left to the caller; the pass' values are overwritten.
std::optional<v1::BatchNormReport> MeasureBatchNorm(const Network& network, const StepContext& step,
                                                    const float* parameters,
                                                    std::span<const float> buffers,
                                                    TrainingPass& pass, TrainingPass::Loader load,
                                                    absl::FunctionRef<double()> loss);

// What to warn of; empty when inference agrees with training well enough: its loss is at most
// twice training's + 0.1.
std::string DescribeDisagreement(const v1::BatchNormReport& report);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_BATCH_NORM_REPORT_H_
