#ifndef LOCKSTEP_CORE_TRAINING_FINITE_GUARD_H_
#define LOCKSTEP_CORE_TRAINING_FINITE_GUARD_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/network/network.h"
#include "lockstep/v1/checkpoint.pb.h"

namespace lockstep {

// Ends a training whose numbers are no longer finite (core/README.md, rule 13), and tells people
// where it began. Steps are counted from 0; errors are FAILED_PRECONDITION.
class FiniteGuard {
 public:
  // The loss of step number `step`. `first_bad` finds the first layer that gives such values, or
  // nullptr, and is asked only when the loss is not finite.
  absl::Status SeeLoss(int64_t step, double loss,
                       absl::FunctionRef<const Network::Node*()> first_bad);

  // After `steps` steps: one can overflow what no later loss will show, the last one's weights or a
  // moving variance. The vectors are flat, as the network has them.
  absl::Status CheckState(int64_t steps, const Network& network, std::span<const float> parameters,
                          std::span<const float> buffers) const;

  void Save(v1::RunState* state) const;
  // INVALID_ARGUMENT when it is not of so many losses.
  absl::Status Restore(const v1::RunState& state);

 private:
  // Losses that are told with one that is not finite.
  static constexpr size_t kTold = 3;

  std::string LossesBefore(int64_t step) const;

  std::array<double, kTold> losses_{};  // of step s at s modulo their number
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_FINITE_GUARD_H_
