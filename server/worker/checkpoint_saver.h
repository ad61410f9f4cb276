#ifndef LOCKSTEP_SERVER_WORKER_CHECKPOINT_SAVER_H_
#define LOCKSTEP_SERVER_WORKER_CHECKPOINT_SAVER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/training/checkpoint.h"
#include "core/training/job_plan.h"
#include "server/worker/blob_client.h"
#include "server/worker/server_link.h"

namespace lockstep {

// Uploads, again and again while the server is gone, its disk is full or it does not take them for
// any other reason that may pass. CANCELLED once the assignment is; INVALID_ARGUMENT or DATA_LOSS
// when the server has said so twice.
absl::Status UploadPatiently(const v1::Blob& blob, std::string_view bytes, BlobClient& blobs,
                             ServerLink& link);

// Digest and size.
v1::Blob DescribeBlob(const std::string& bytes);

// A thread that serialises and uploads what an assignment saves, beside the training. The methods
// are for the thread that trains. The destructor waits for an upload under way to succeed or fail,
// or to be broken off by a cancellation.
class CheckpointSaver {
 public:
  // `previous_sha256`: of the checkpoint that the run goes on from. All must outlive the saver.
  CheckpointSaver(const JobPlan& plan, std::string previous_sha256, BlobClient* blobs,
                  ServerLink* link);
  ~CheckpointSaver();

  // Whether the policy asks for a checkpoint between two steps, and none is being saved nor waits
  // to be acknowledged, which bounds what is kept in memory. One that costs c seconds of a core is
  // not followed by a time-based one before 20 c have gone by.
  bool Due(int64_t step, bool epoch_ended) ABSL_LOCKS_EXCLUDED(mu_);
  // Only when idle. `stall` is how long training stood still for the snapshot.
  void Save(RunSnapshot snapshot, absl::Duration stall) ABSL_LOCKS_EXCLUDED(mu_);
  // Uploads `bytes`, then sends the message.
  void SendWithBlob(v1::WorkerMessage message, v1::Blob blob,
                    std::shared_ptr<const std::string> bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void WaitUntilIdle() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  void Post(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mu_);
  void SaveNow(const RunSnapshot& snapshot, absl::Duration stall) ABSL_LOCKS_EXCLUDED(mu_);

  const JobPlan& plan_;
  const absl::Duration every_;  // infinite: not by time
  BlobClient& blobs_;
  ServerLink& link_;
  std::string previous_sha256_;  // the thread's own

  absl::Mutex mu_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);  // the first is under way
  absl::Time next_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_CHECKPOINT_SAVER_H_
