#ifndef LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_
#define LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_

#include <grpcpp/channel.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "lockstep/v1/worker.grpc.pb.h"
#include "server/worker/blob_client.h"
#include "server/worker/outbox.h"

namespace lockstep {

// A worker's end of its stream, and of the next one when that breaks. What is sent is kept until
// the server has acknowledged it, and sent again to a server that has come back. Thread-safe;
// NextAssignment is for one thread.
class ServerLink {
 public:
  struct Options {
    v1::Hello hello;  // without a token
    // Asked before each stream: a server that was started again has another one.
    std::function<absl::StatusOr<std::string>()> token;
    std::string spool_directory;
    // How long a server that is gone is waited for.
    absl::Duration grace;
  };

  ServerLink(const std::shared_ptr<grpc::Channel>& channel, Options options, BlobClient* blobs);
  ~ServerLink();

  // Waits for the next assignment; empty when the server is gone for good.
  std::optional<v1::ServerMessage> NextAssignment() ABSL_LOCKS_EXCLUDED(mu_);

  // What the server wants of the assignment under way. Cancelled also when the server is gone for
  // good: nobody would hear of the outcome.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool yield_requested() const { return yield_.load(std::memory_order_relaxed); }
  bool on_hold() const { return hold_.load(std::memory_order_relaxed); }
  // The id of the newest request that has not been taken yet; 0: none.
  int64_t TakeSnapshotRequest() { return snapshot_request_.exchange(0); }
  // Until training may go on: no hold, or cancelled.
  void WaitWhileOnHold() ABSL_LOCKS_EXCLUDED(mu_);
  // At most so long; true: cancelled.
  bool WaitForCancel(absl::Duration time) ABSL_LOCKS_EXCLUDED(mu_);

  // Queues a message of the assignment under way; its outcome is the last. Waits neither for the
  // network nor for the disk; see Outbox. `bytes`: of the blob that it names, which was uploaded;
  // they are uploaded again should the server have lost them before it acknowledges the message.
  void Send(v1::WorkerMessage message, std::shared_ptr<const std::string> bytes = nullptr) {
    outbox_.Push(std::move(message), std::move(bytes));
  }
  // Whether a message with a blob waits to be acknowledged.
  bool HoldsBytes() const { return outbox_.HoldsBytes(); }

  // Ends the stream and says why it ended.
  absl::Status Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>;

  // One stream after the other.
  void ConnectLoop() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status RunStream() ABSL_LOCKS_EXCLUDED(mu_);
  void WriteLoop(Stream& stream) ABSL_LOCKS_EXCLUDED(mu_);
  // Once the server has the blob that the message names, or for good does not take it; false: the
  // stream or the assignment has ended.
  bool EnsureBlob(const Outbox::Item& item) ABSL_LOCKS_EXCLUDED(mu_);
  void ReadLoop(Stream& stream) ABSL_LOCKS_EXCLUDED(mu_);
  void Handle(v1::ServerMessage message) ABSL_LOCKS_EXCLUDED(mu_);
  void Begin(v1::ServerMessage assignment) ABSL_LOCKS_EXCLUDED(mu_);
  void CancelAssignment() ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  BlobClient& blobs_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;

  // Written with mu_ held, so that who waits for them wakes up.
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> yield_{false};
  std::atomic<bool> hold_{false};
  std::atomic<int64_t> snapshot_request_{0};

  Outbox outbox_;
  bool accepted_ = false;  // by any server yet; the connector's own

  absl::Mutex mu_;
  std::optional<v1::ServerMessage> assignment_ ABSL_GUARDED_BY(mu_);  // not taken yet
  // Of the assignment under way, which only the reader changes; empty once its outcome has been
  // acknowledged.
  std::string job_id_ ABSL_GUARDED_BY(mu_);
  int32_t attempt_ ABSL_GUARDED_BY(mu_) = 0;
  std::string trace_id_ ABSL_GUARDED_BY(mu_);
  bool stream_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool heard_ ABSL_GUARDED_BY(mu_) = false;  // from the server on this stream
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  bool lost_ ABSL_GUARDED_BY(mu_) = false;  // for good
  absl::Status reason_ ABSL_GUARDED_BY(mu_);

  std::thread connector_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_
