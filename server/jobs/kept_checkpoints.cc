#include "server/jobs/kept_checkpoints.h"

#include <iterator>

#include "core/training/monitor.h"

namespace lockstep {

std::vector<v1::Checkpoint> NotKept(const std::vector<v1::Checkpoint>& checkpoints,
                                    const v1::CheckpointPolicy& policy) {
  const v1::Checkpoint* best = nullptr;
  if (!policy.keep_best().empty()) {
    const bool more_is_better = DefaultMode(policy.keep_best()) == "max";
    for (const v1::Checkpoint& checkpoint : checkpoints) {
      if (!checkpoint.has_monitored()) continue;
      const bool better =
          best == nullptr || (more_is_better ? checkpoint.monitored() > best->monitored()
                                             : checkpoint.monitored() < best->monitored());
      if (better) best = &checkpoint;
    }
  }
  std::vector<v1::Checkpoint> dropped;
  for (auto c = checkpoints.begin(); c != checkpoints.end(); ++c) {
    if (c - checkpoints.begin() >= policy.keep_last() && &*c != best) dropped.push_back(*c);
  }
  return dropped;
}

}  // namespace lockstep
