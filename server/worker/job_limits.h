#ifndef LOCKSTEP_SERVER_WORKER_JOB_LIMITS_H_
#define LOCKSTEP_SERVER_WORKER_JOB_LIMITS_H_

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "lockstep/v1/worker.pb.h"

namespace lockstep {

// An assignment's limits on memory and time, counted from the construction on.
class JobLimits {
 public:
  explicit JobLimits(const v1::Assignment& assignment);

  // To be asked between steps. RESOURCE_EXHAUSTED says which limit the job is over; memory is
  // looked at every 100 ms.
  absl::Status Check();

 private:
  using Clock = std::chrono::steady_clock;

  const int64_t max_seconds_;
  const double seconds_left_;  // 0: no limit
  const int64_t max_bytes_;    // 0: no limit
  const int64_t bytes_before_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point next_look_ = begin_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_JOB_LIMITS_H_
