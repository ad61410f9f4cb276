#ifndef LOCKSTEP_CLIENT_LIB_CONNECTION_H_
#define LOCKSTEP_CLIENT_LIB_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "client/lib/client.h"
#include "inference/inference.grpc.pb.h"
#include "lockstep/v1/blob.grpc.pb.h"
#include "lockstep/v1/dataset.grpc.pb.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "lockstep/v1/registry.grpc.pb.h"

// Private to client/lib: the channel, and what its users share.
namespace lockstep {

// What the newest reply said about the dashboard. Thread-safe.
class DashboardNotice {
 public:
  void Hear(const grpc::ClientContext& context) ABSL_LOCKS_EXCLUDED(mutex_);
  std::string told() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::string told_ ABSL_GUARDED_BY(mutex_);
};

struct Connection {
  Connection(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel);

  // Adds the token. Streams have no deadline; unary calls get call_timeout.
  void Prepare(grpc::ClientContext& context) const;
  void PrepareUnary(grpc::ClientContext& context) const;

  const ClientOptions options;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::JobService::Stub> jobs;
  const std::unique_ptr<v1::DatasetService::Stub> datasets;
  const std::unique_ptr<v1::ModelService::Stub> models;
  const std::unique_ptr<v1::BlobService::Stub> blobs;
  const std::unique_ptr<inference::GRPCInferenceService::Stub> inference;
  mutable DashboardNotice dashboard;
};

absl::Status FromGrpc(const grpc::Status& status);

// Whether a stream that ended so may be opened again: the transport's fault, not the server's
// answer. (A server that shuts down cancels its streams.)
bool IsTransportFailure(const absl::Status& status);

// Counts the attempts at one transfer since it last made progress.
class Retries {
 public:
  explicit Retries(const RetryPolicy& policy) : policy_(policy), pause_(policy.first_pause) {}

  void Progress();
  // False when there is to be no further attempt; else sets how long to wait before it.
  bool Next(absl::Duration* pause);

 private:
  const RetryPolicy policy_;
  int attempts_ = 0;
  absl::Duration pause_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_LIB_CONNECTION_H_
