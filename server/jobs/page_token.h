#ifndef LOCKSTEP_SERVER_JOBS_PAGE_TOKEN_H_
#define LOCKSTEP_SERVER_JOBS_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Where a listing goes on (Store::ListJobs' `below`), as text that clients hand back. It belongs to
// the request's filters; 0 is the empty token.
std::string MakePageToken(int64_t below, const v1::ListJobsRequest& request);

// INVALID_ARGUMENT for what MakePageToken did not make for a request with the same filters.
absl::StatusOr<int64_t> ParsePageToken(const v1::ListJobsRequest& request);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_PAGE_TOKEN_H_
