#ifndef LOCKSTEP_SERVER_JOBS_KEPT_CHECKPOINTS_H_
#define LOCKSTEP_SERVER_JOBS_KEPT_CHECKPOINTS_H_

#include <vector>

#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Which of a job's checkpoints, newest first, its policy does not keep: all but the newest
// keep_last and, with keep_best, the one with the best value (of equals the newest).
std::vector<v1::Checkpoint> NotKept(const std::vector<v1::Checkpoint>& checkpoints,
                                    const v1::CheckpointPolicy& policy);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_KEPT_CHECKPOINTS_H_
