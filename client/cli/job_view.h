#ifndef LOCKSTEP_CLIENT_CLI_JOB_VIEW_H_
#define LOCKSTEP_CLIENT_CLI_JOB_VIEW_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "lockstep/v1/job.pb.h"

// Jobs and workers as text for people; pure.
namespace lockstep {

// What to try when there is no such job.
inline constexpr char kSeeJobs[] = "`lockstep jobs` lists what there is";

// A row a job, in the order given. PRIORITY only if some job has one; WORKER only if some job has
// one and no line gets wider than `columns` by it.
std::string JobTable(const std::vector<v1::Job>& jobs, absl::Time now, int columns);

// Everything about a job, a field a line.
std::string JobText(const v1::Job& job, absl::Time now);

// A row a worker, with its BUILD if no line gets wider than `columns` by it, and how many jobs
// wait.
std::string WorkersText(const v1::ListWorkersResponse& response, absl::Time now, int columns);

// What submit says: the job, its fingerprint and, if `reuse` was asked for and found one, that an
// earlier job answers.
std::string SubmittedText(const v1::Job& job, bool reuse, absl::Time now);

// "120/2400".
std::string Steps(const v1::Progress& progress);
// "cnn:3"; "-" as long as nothing is published.
std::string PublishedModel(const v1::Job& job);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JOB_VIEW_H_
