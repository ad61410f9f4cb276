#ifndef LOCKSTEP_SERVER_JOBS_SUBMISSION_H_
#define LOCKSTEP_SERVER_JOBS_SUBMISSION_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/job.pb.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"

namespace lockstep {

// What stands between a client's request and a stored job. Errors are INVALID_ARGUMENT with the
// field's path, the value and what is allowed, unless said otherwise.

// 64 random bits: no two jobs of a server meet.
std::string ChooseJobId();
absl::Status CheckJobId(const std::string& id);
absl::Status CheckPriority(const std::string& field, int32_t priority);

// Checks a job and fills in its defaults; `name` is what it publishes if it does not say.
// RESOURCE_EXHAUSTED when it needs more memory than there is, or than it allows itself.
absl::StatusOr<JobPlan> PrepareJob(v1::JobSpec spec, const std::string& name,
                                   int64_t max_memory_bytes, Store& store, const BlobStore& blobs);

// As it is first stored: QUEUED.
v1::Job NewJob(const std::string& id, const JobPlan& plan);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_SUBMISSION_H_
