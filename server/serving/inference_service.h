#ifndef LOCKSTEP_SERVER_SERVING_INFERENCE_SERVICE_H_
#define LOCKSTEP_SERVER_SERVING_INFERENCE_SERVICE_H_

#include <cstdint>
#include <string>

#include "inference/inference.grpc.pb.h"
#include "server/api/handler.h"
#include "server/serving/model_repository.h"

namespace lockstep {

// The six core methods of the open inference protocol, so that Triton and KServe clients work
// unchanged. Stateless: find the model, check the request, queue it, convert the answer.
class InferenceService : public inference::GRPCInferenceService::CallbackService {
 public:
  // Both must outlive it. A request whose answer would pass `max_response_bytes` is refused.
  InferenceService(Gate* gate, ModelRepository* repository, int64_t max_response_bytes)
      : gate_(gate), repository_(repository), max_response_bytes_(max_response_bytes) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;
  // Waits for a version that is being loaded; false for one that cannot be.
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override;

 private:
  using Handle = ModelRepository::Handle;

  void Find(const std::string& name, const std::string& version, ModelRepository::Found found);
  void Infer(Handle model, grpc::CallbackServerContext* context,
             const inference::ModelInferRequest& request, inference::ModelInferResponse& response,
             Gate::Done done);
  void Describe(const ServedModel& model, inference::ModelMetadataResponse& response) const;

  Gate* const gate_;
  ModelRepository* const repository_;
  const int64_t max_response_bytes_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_INFERENCE_SERVICE_H_
