#ifndef LOCKSTEP_SERVER_WEB_API_H_
#define LOCKSTEP_SERVER_WEB_API_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "inference/inference.grpc.pb.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "lockstep/v1/registry.grpc.pb.h"
#include "server/api/executor.h"
#include "server/jobs/job_curves.h"
#include "server/jobs/job_manager.h"
#include "server/store/blob_store.h"
#include "server/web/http_message.h"

namespace lockstep {

// The JSON API under /api/ (README.md lists it): mostly the gRPC services' calls, whose messages
// are protobuf's JSON with the .proto's field names; they go through the services' own door.
// Thread-safe.
class Api {
 public:
  // All must outlive it.
  struct Parts {
    std::shared_ptr<grpc::Channel> channel;  // to this server's own services
    std::string token;                       // that they want
    JobManager* jobs = nullptr;
    JobCurves* curves = nullptr;
    BlobStore* blobs = nullptr;
    Executor* executor = nullptr;
  };
  explicit Api(Parts parts);
  // Waits for the calls under way; the services have been shut down.
  ~Api();

  using Done = absl::AnyInvocable<void(HttpAnswer)>;
  // Does not block. Calls `done` once, from this thread or another. The caller has made sure that
  // the client may do this.
  void Handle(const HttpRequest& request, Done done);

  // The most that the body of such a request may have.
  static int64_t MaxBodyBytes(const HttpRequest& request);

 private:
  struct Route;
  static const Route kRoutes[];

  void ListJobs(const HttpRequest& request, Done done);
  void GetJob(const HttpRequest& request, Done done);
  void Pause(const HttpRequest& request, Done done);
  void Resume(const HttpRequest& request, Done done);
  void Cancel(const HttpRequest& request, Done done);
  void Delete(const HttpRequest& request, Done done);
  void SetPriority(const HttpRequest& request, Done done);
  void Events(const HttpRequest& request, Done done);
  void Series(const HttpRequest& request, Done done);
  void ListModels(const HttpRequest& request, Done done);
  void ListVersions(const HttpRequest& request, Done done);
  void GetModel(const HttpRequest& request, Done done);
  void ModelWeights(const HttpRequest& request, Done done);
  void ModelMetadata(const HttpRequest& request, Done done);
  void Infer(const HttpRequest& request, Done done);
  void ListWorkers(const HttpRequest& request, Done done);

  // Calls a service and answers with what it says.
  template <typename Stub, typename Request, typename Response>
  void Call(Stub& stub,
            void (Stub::async_interface::*method)(grpc::ClientContext*, const Request*, Response*,
                                                  std::function<void(grpc::Status)>),
            Request request, Done done,
            absl::AnyInvocable<HttpAnswer(const Response&)> answer = nullptr);
  // Runs `work`, which may wait and calls `done` or gives it away, on the executor.
  void Post(Done done, absl::AnyInvocable<void(Done& done)> work);

  void EndCall();

  const Parts parts_;
  absl::Mutex mu_;
  int calls_ ABSL_GUARDED_BY(mu_) = 0;  // under way
  const std::unique_ptr<v1::JobService::Stub> jobs_;
  const std::unique_ptr<v1::ModelService::Stub> models_;
  const std::unique_ptr<inference::GRPCInferenceService::Stub> inference_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_API_H_
