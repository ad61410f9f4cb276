#ifndef LOCKSTEP_SERVER_JOBS_JOB_STATE_H_
#define LOCKSTEP_SERVER_JOBS_JOB_STATE_H_

#include "absl/status/statusor.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// What can happen to a job.
enum class JobCommand {
  kAssign,   // a worker takes it
  kRequeue,  // its worker is gone, or shall do something else; the next attempt follows
  kPause,
  kResume,
  kSucceed,
  kFail,
  kCancel,
};

const char* JobCommandName(JobCommand command);

// The state that `command` leads to. FAILED_PRECONDITION names both when the table in job_state.cc
// has no such row; states that have ended have none at all.
absl::StatusOr<v1::JobState> NextState(v1::JobState state, JobCommand command);

// Succeeded, failed or cancelled: never changes again.
bool HasEnded(v1::JobState state);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_STATE_H_
