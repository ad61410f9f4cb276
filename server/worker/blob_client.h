#ifndef LOCKSTEP_SERVER_WORKER_BLOB_CLIENT_H_
#define LOCKSTEP_SERVER_WORKER_BLOB_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/blob.grpc.pb.h"

namespace lockstep {

// A server's blobs as its workers use them. Thread-safe; every call waits for the server.
class BlobClient {
 public:
  explicit BlobClient(const std::shared_ptr<grpc::Channel>& channel);

  // From the next call on.
  void SetToken(const std::string& token) ABSL_LOCKS_EXCLUDED(mu_);

  // Calls `sink` with the bytes from `offset` to the end, piece after piece; its error ends the
  // transfer.
  absl::Status Fetch(const std::string& sha256, int64_t offset,
                     absl::FunctionRef<absl::Status(std::string_view)> sink);
  // Returns once the server has all of `bytes`, from us or from whoever else uploads the same.
  // `blob` is their digest and size.
  absl::Status Upload(const v1::Blob& blob, std::string_view bytes) ABSL_LOCKS_EXCLUDED(mu_);

  // Breaks off the calls under way and all others until Resume: CANCELLED.
  void Interrupt() ABSL_LOCKS_EXCLUDED(mu_);
  void Resume() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Call;

  absl::Status UploadOnce(const v1::Blob& blob, std::string_view bytes);

  absl::Mutex mu_;
  std::string authorization_ ABSL_GUARDED_BY(mu_);
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
  std::set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mu_);  // under way
  const std::unique_ptr<v1::BlobService::Stub> stub_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_BLOB_CLIENT_H_
