#ifndef LOCKSTEP_CORE_TRAINING_MONITOR_H_
#define LOCKSTEP_CORE_TRAINING_MONITOR_H_

#include <limits>
#include <string>

#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Follows one metric of the epochs and knows its best value.
class Monitor {
 public:
  // `mode` is "min" or "max".
  Monitor(std::string metric, const std::string& mode, double min_delta)
      : metric_(std::move(metric)), sign_(mode == "max" ? -1 : 1), min_delta_(min_delta) {}

  // Whether the epoch's value is better than the best so far by more than min_delta; then it is the
  // best from now on. NaN is never better.
  bool Improves(const v1::EpochRecord& epoch);

  const std::string& metric() const { return metric_; }

  void Save(v1::MonitorState* state) const { state->set_best(best_); }
  void Restore(const v1::MonitorState& state) { best_ = state.best(); }

 private:
  std::string metric_;
  double sign_;
  double min_delta_;
  double best_ = std::numeric_limits<double>::infinity();  // times sign_: the smaller the better
};

// "max" for a metric of which more is better (accuracy, auc, precision, recall, f1, by whatever
// set and output), else "min".
std::string DefaultMode(const std::string& metric);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_MONITOR_H_
