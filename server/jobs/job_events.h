#ifndef LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_
#define LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_

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
// Back to step 0, as an attempt begins.
void ResetProgress(v1::Job& job);

// What a stranger needs to train `job` again, but for the validation set; see registry.proto.
v1::Receipt MakeReceipt(const v1::Job& job, const v1::Dataset& train, const v1::Success& success);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_EVENTS_H_
