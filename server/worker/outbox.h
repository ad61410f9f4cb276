#ifndef LOCKSTEP_SERVER_WORKER_OUTBOX_H_
#define LOCKSTEP_SERVER_WORKER_OUTBOX_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/worker.pb.h"
#include "server/worker/spool.h"

namespace lockstep {

// What a worker has to say of an assignment, in order, until the server has acknowledged it.
// Reports that come faster than they are sent are merged; then each message has its number for
// good. Thread-safe; Next is for one thread.
class Outbox {
 public:
  // A message and, if it names a blob, the blob's bytes.
  struct Item {
    v1::WorkerMessage message;
    std::shared_ptr<const std::string> bytes;
  };
  // What is kept in memory before the rest goes to a file.
  static constexpr int64_t kMemoryBytes = 4 << 20;
  // Reports are merged up to this size.
  static constexpr int kMaxEvents = 256;
  static constexpr int64_t kMaxReportBytes = 256 << 10;
  // So many messages at most are on their way without an acknowledgement. What comes meanwhile
  // waits, and is merged.
  static constexpr int64_t kWindow = 32;

  // Files come into being in `spool_directory` when they are needed.
  explicit Outbox(std::string spool_directory);
  ~Outbox();
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  // A new assignment: forgets everything, numbers start with 1.
  void Begin(const std::string& job_id, int32_t attempt, const std::string& trace_id = "")
      ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // An outcome is an assignment's last message: what comes after it is dropped. Waits neither for
  // the network nor for the disk, but for room when the disk does not take what does not fit into
  // memory.
  void Push(v1::WorkerMessage message, std::shared_ptr<const std::string> bytes = nullptr)
      ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // Forgets what has not been acknowledged; numbers go on. Whether there was an outcome already:
  // if so, there may be another one.
  bool Drop() ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // All messages up to this number are taken down. True: that was all, the outcome included.
  bool Acknowledge(int64_t number) ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);

  // A new stream: Next begins again with the oldest message that is not acknowledged.
  void Rewind() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for what is to be sent next. CANCELLED after Interrupt; other errors are the spool's.
  absl::StatusOr<Item> Next() ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // The stream has ended; Next returns until there is a new one.
  void Interrupt() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether a blob's bytes are kept until the server acknowledges their message.
  bool HoldsBytes() const ABSL_LOCKS_EXCLUDED(mu_);
  // Nothing is taken any more and nobody waits.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Without a number yet.
  struct Pending {
    Item item;
    int64_t size;
    // Whether another report may still be merged into it.
    bool open() const;
  };

  void KeepLoop() ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // Numbers and keeps what nothing can be merged into any more; if there is nothing of that and
  // `send_open`, the open message. False when the disk does not take it.
  bool Keep(bool send_open) ABSL_LOCKS_EXCLUDED(spool_mu_, mu_);
  // Whether the first pending message is one that nothing can be merged into.
  bool HasClosed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ForgetPending() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Held while the disk is busy, so never by a thread that trains. Taken before mu_.
  absl::Mutex spool_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  Spool spool_ ABSL_GUARDED_BY(spool_mu_);
  std::string job_id_ ABSL_GUARDED_BY(spool_mu_);
  int32_t attempt_ ABSL_GUARDED_BY(spool_mu_) = 0;
  std::string trace_id_ ABSL_GUARDED_BY(spool_mu_);  // for logs

  mutable absl::Mutex mu_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mu_);
  int64_t pending_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool has_outcome_ ABSL_GUARDED_BY(mu_) = false;
  bool spool_failed_ ABSL_GUARDED_BY(mu_) = false;
  // By number, of messages in the spool.
  std::map<int64_t, std::shared_ptr<const std::string>> bytes_ ABSL_GUARDED_BY(mu_);
  int64_t acknowledged_ ABSL_GUARDED_BY(mu_) = 0;  // the first in the spool comes after it
  int64_t next_ ABSL_GUARDED_BY(mu_) = 1;          // to be sent
  int64_t last_ ABSL_GUARDED_BY(mu_) = 0;          // in the spool
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;

  std::thread keeper_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_OUTBOX_H_
