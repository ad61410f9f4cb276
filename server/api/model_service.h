#ifndef LOCKSTEP_SERVER_API_MODEL_SERVICE_H_
#define LOCKSTEP_SERVER_API_MODEL_SERVICE_H_

#include "lockstep/v1/registry.grpc.pb.h"
#include "server/api/handler.h"
#include "server/store/store.h"

namespace lockstep {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // Both must outlive the service.
  ModelService(Gate* gate, Store* store) : gate_(*gate), store_(*store) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::ModelVersion* response) override;

 private:
  absl::StatusOr<std::vector<v1::ModelVersion>> NewestVersions(const std::string& name) const;

  Gate& gate_;
  Store& store_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_MODEL_SERVICE_H_
