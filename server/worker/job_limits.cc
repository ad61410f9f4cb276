#include "server/worker/job_limits.h"

#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

// What of this process is in memory and is no file's.
int64_t AnonymousBytes() {
  int64_t size = 0, resident = 0, shared = 0;
  std::ifstream("/proc/self/statm") >> size >> resident >> shared;
  return (resident - shared) * sysconf(_SC_PAGESIZE);
}

}  // namespace

JobLimits::JobLimits(const v1::Assignment& assignment)
    : max_seconds_(assignment.spec().resources().max_seconds()),
      seconds_left_(assignment.seconds_left()),
      max_bytes_(assignment.spec().resources().max_memory_bytes()),
      bytes_before_(AnonymousBytes()) {}

absl::Status JobLimits::Check() {
  const Clock::time_point now = Clock::now();
  if (seconds_left_ > 0 && std::chrono::duration<double>(now - begin_).count() >= seconds_left_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("over the limit: ran for resources.max_seconds (", max_seconds_, " s)"));
  }
  if (max_bytes_ == 0 || now < next_look_) return absl::OkStatus();
  next_look_ = now + std::chrono::milliseconds(100);
  const int64_t used = AnonymousBytes() - bytes_before_;
  if (used <= max_bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("over the limit: the job uses ", used / 1000000,
                   " MB of memory, resources.max_memory_bytes allows ", max_bytes_ / 1000000));
}

}  // namespace lockstep
