#ifndef LOCKSTEP_SERVER_WORKER_ASSIGNMENT_H_
#define LOCKSTEP_SERVER_WORKER_ASSIGNMENT_H_

#include "absl/status/status.h"
#include "lockstep/v1/worker.pb.h"
#include "server/worker/blob_client.h"
#include "server/worker/data_cache.h"
#include "server/worker/server_link.h"

namespace lockstep {

// Trains one assignment with up to `threads` threads and reports on it through `link`, up to and
// including its outcome. Not OK when the worker itself is at fault (no data, no disk): then there
// is no outcome, and the job needs another worker.
absl::Status RunAssignment(const v1::Assignment& assignment, int threads, const DataCache& cache,
                           BlobClient& blobs, ServerLink& link);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_ASSIGNMENT_H_
