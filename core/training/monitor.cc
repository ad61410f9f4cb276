#include "core/training/monitor.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace lockstep {

bool Monitor::Improves(const v1::EpochRecord& epoch) {
  const auto found = std::find_if(epoch.metrics().begin(), epoch.metrics().end(),
                                  [&](const v1::Metric& m) { return m.name() == metric_; });
  if (found == epoch.metrics().end()) return false;
  const double value = sign_ * found->value();
  if (!(value < best_ - min_delta_)) return false;
  best_ = value;
  return true;
}

std::string DefaultMode(const std::string& metric) {
  const char* const more_is_better[] = {"accuracy", "auc", "precision", "recall", "f1"};
  const bool max = std::any_of(std::begin(more_is_better), std::end(more_is_better),
                               [&](const char* suffix) { return absl::EndsWith(metric, suffix); });
  return max ? "max" : "min";
}

}  // namespace lockstep
