#ifndef LOCKSTEP_CORE_NETWORK_STEP_PROFILE_H_
#define LOCKSTEP_CORE_NETWORK_STEP_PROFILE_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "core/kernels/peaks.h"
#include "core/network/network.h"
#include "core/network/step_plan.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// What a step does beside the calls of its layers. kStep is all of it; kBatch, the loading of
// inputs, is done tile by tile.
enum class StepPart { kStep, kBatch, kPacking, kLoss, kReduction, kOptimizer };

// Adds up where the time of training steps goes, through StepTimers: by layer and call, and by the
// other parts of a step. Threads count apart from each other. Network and plan must outlive it.
class StepProfile {
 public:
  StepProfile(const Network& network, const StepPlan& plan, int threads);

  // What the steps from `first_step` to `last_step` took, against what the machine can do.
  v1::Profile Describe(int64_t first_step, int64_t last_step, const Peaks& peaks) const;

 private:
  friend class StepTimer;
  using Clock = std::chrono::steady_clock;

  static constexpr int kCalls = static_cast<int>(Call::kFinishBackward) + 1;
  static constexpr int kParts = static_cast<int>(StepPart::kOptimizer) + 1;
  struct Counter {
    Clock::duration time{};
    int64_t amount = 0;  // samples of a call and of kStep; bytes of another part
  };

  Counter& Of(const PlannedCall& call, int thread) {
    return calls_[thread][call.node * kCalls + static_cast<int>(call.call)];
  }
  Counter& Of(StepPart part, int thread) { return parts_[thread][static_cast<int>(part)]; }
  Counter Sum(StepPart part) const;
  v1::ProfileRow DescribeCall(int node, Call call, double steps) const;

  const Network& network_;
  const StepPlan& plan_;
  std::vector<std::vector<Counter>> calls_;         // by thread, then by node and call
  std::vector<std::array<Counter, kParts>> parts_;  // by thread
};

// Counts the time from here to the end of the scope; nothing, and at no cost, when the profile is
// null.
class StepTimer {
 public:
  StepTimer(StepProfile* profile, const PlannedCall& call, int64_t samples, int thread)
      : StepTimer(profile == nullptr ? nullptr : &profile->Of(call, thread), samples) {}
  StepTimer(StepProfile* profile, StepPart part, int64_t amount, int thread = 0)
      : StepTimer(profile == nullptr ? nullptr : &profile->Of(part, thread), amount) {}
  ~StepTimer() {
    if (counter_ != nullptr) counter_->time += StepProfile::Clock::now() - begin_;
  }
  StepTimer(const StepTimer&) = delete;
  StepTimer& operator=(const StepTimer&) = delete;

 private:
  StepTimer(StepProfile::Counter* counter, int64_t amount) : counter_(counter) {
    if (counter_ == nullptr) return;
    counter_->amount += amount;
    begin_ = StepProfile::Clock::now();
  }

  StepProfile::Counter* const counter_;
  StepProfile::Clock::time_point begin_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_STEP_PROFILE_H_
