#ifndef LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_
#define LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_

#include <cstdint>
#include <span>
#include <string>

#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/registry.pb.h"
#include "lockstep/v1/worker.pb.h"

namespace lockstep {

// Pure functions between jobs and their events. Sequence and time are the log's to give.

// The state that `job` is in.
v1::Event StateEvent(const v1::Job& job);
v1::Event TextEvent(const v1::Job& job, v1::Text::Severity severity, std::string text);

// Takes the newest values of a step or epoch record into the job's progress.
void UpdateProgress(const v1::Event& event, v1::Job& job);
// Back to the step that an attempt begins with; from step 0 without metrics.
void ResetProgress(int64_t step, v1::Job& job);

// What a stranger needs to train `job` again, but for the validation set and the build; see
// registry.proto. `epochs` are all it has had.
v1::Receipt MakeReceipt(const v1::Job& job, const v1::Dataset& train, const v1::Success& success,
                        std::span<const v1::EpochRecord> epochs);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_
