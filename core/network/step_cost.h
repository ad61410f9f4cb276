#ifndef LOCKSTEP_CORE_NETWORK_STEP_COST_H_
#define LOCKSTEP_CORE_NETWORK_STEP_COST_H_

#include "core/kernels/peaks.h"
#include "core/network/network.h"
#include "core/network/step_plan.h"

namespace lockstep {

// What a call of a layer computes and moves at the least, for each sample and once a step.
struct CallCost {
  double sample_flops = 0;  // two for each multiply-add of a contraction
  double sample_floats = 0;
  double step_floats = 0;
};
CallCost CostOf(const Network& network, const StepPlan& plan, int node, Call call);

// Forward, of one layer and one sample.
double FlopsPerSample(const Network::Node& node);

// Seconds of a training step of `samples` on so many threads of a machine whose cores reach `peaks`
// each, by what it computes and moves; `update_vectors` is how many flat vectors the optimizer
// reads and writes. Within a factor of 1.5 of what steps take (tests/bench/bench.py, case
// "explain").
double PredictStep(const Network& network, const StepPlan& plan, int64_t samples, int threads,
                   int64_t update_vectors, const Peaks& peaks);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_STEP_COST_H_
