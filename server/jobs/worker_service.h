#ifndef LOCKSTEP_SERVER_JOBS_WORKER_SERVICE_H_
#define LOCKSTEP_SERVER_JOBS_WORKER_SERVICE_H_

#include <atomic>
#include <string>

#include "lockstep/v1/worker.grpc.pb.h"
#include "server/api/executor.h"
#include "server/jobs/job_manager.h"

namespace lockstep {

// Where workers register; on the worker listener, beside a BlobService that asks for the same
// token. The manager must outlive the service, and the service its gRPC server.
class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  // Only workers that know `token` are let in. REQUIRES: it is not empty.
  WorkerService(std::string token, JobManager* manager);

  // From now on what cannot be written is not tried again, so that streams can end.
  void Stop() { stopping_ = true; }

  // Lets in at most kMaxWorkers at a time; RESOURCE_EXHAUSTED beyond.
  static constexpr int kMaxWorkers = 256;
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* Connect(
      grpc::CallbackServerContext* context) override;

 private:
  class Session;

  const std::string token_;
  JobManager& manager_;
  std::atomic<int> sessions_{0};
  std::atomic<bool> stopping_{false};
  // Of its own, and each session has one task at most: so no worker is ever turned away for lack of
  // room, nor waits behind clients.
  Executor executor_{2};
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_WORKER_SERVICE_H_
