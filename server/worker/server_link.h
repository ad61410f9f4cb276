#ifndef LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_
#define LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_

#include <grpcpp/channel.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/worker.grpc.pb.h"
#include "server/worker/blob_client.h"

namespace lockstep {

// A worker's end of its stream: one thread reads it, one writes it, so that training neither waits
// for the network nor asks it. The methods are for one thread, the one that trains.
class ServerLink {
 public:
  // Opens the stream and says hello.
  ServerLink(const std::shared_ptr<grpc::Channel>& channel, const v1::Hello& hello,
             BlobClient* blobs);
  ~ServerLink();

  // Waits for the next assignment; empty when the stream has ended.
  std::optional<v1::ServerMessage> NextAssignment() ABSL_LOCKS_EXCLUDED(mu_);

  // True when the assignment has been cancelled or nobody would hear of its outcome any more.
  bool stop_requested() const { return stop_.load(std::memory_order_relaxed); }
  // The id of the newest request that has not been taken yet; 0: none.
  int64_t TakeSnapshotRequest() { return snapshot_request_.exchange(0); }

  // Sends messages of the assignment under way, in order. When there is a blob, it is uploaded
  // before its message goes out. Waits only while kMaxWaiting messages wait already. After the
  // stream has ended it drops them.
  static constexpr size_t kMaxWaiting = 1024;
  void Send(v1::WorkerMessage message) ABSL_LOCKS_EXCLUDED(mu_);
  void SendWithBlob(v1::WorkerMessage message, v1::Blob blob, std::string bytes)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Ends the stream and says why it ended.
  absl::Status Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Outgoing {
    v1::WorkerMessage message;
    v1::Blob blob;
    std::string bytes;
  };

  void ReadLoop() ABSL_LOCKS_EXCLUDED(mu_);
  void WriteLoop() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for something to send; empty when the stream has ended. Reports that wait in a row come
  // as one message.
  std::optional<Outgoing> TakeOutgoing() ABSL_LOCKS_EXCLUDED(mu_);
  void Push(Outgoing outgoing) ABSL_LOCKS_EXCLUDED(mu_);
  // The first reason is the one that counts.
  void Break(absl::Status reason) ABSL_LOCKS_EXCLUDED(mu_);

  BlobClient& blobs_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>> stream_;

  std::atomic<bool> stop_{false};
  std::atomic<int64_t> snapshot_request_{0};

  absl::Mutex mu_;
  std::optional<v1::ServerMessage> assignment_ ABSL_GUARDED_BY(mu_);  // not taken yet
  std::string job_id_ ABSL_GUARDED_BY(mu_);                           // of the newest assignment
  int32_t attempt_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mu_);
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status reason_ ABSL_GUARDED_BY(mu_);

  std::thread reader_;
  std::thread writer_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_SERVER_LINK_H_
