#include "server/api/model_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lockstep {

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest*,
                                                   v1::ListModelsResponse* response) {
  return gate_.Unary(context, "ModelService.ListModels", [=, this]() -> absl::Status {
    absl::StatusOr<std::vector<v1::ModelVersion>> found = store_.ListModels();
    if (!found.ok()) return found.status();
    for (v1::ModelVersion& model : *found) *response->add_models() = std::move(model);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::ModelVersion* response) {
  return gate_.Unary(context, "ModelService.GetModel", [=, this]() -> absl::Status {
    if (request->version() < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("version: must be >= 0, got ", request->version()));
    }
    absl::StatusOr<v1::ModelVersion> found = store_.GetModel(request->name(), request->version());
    if (found.ok()) *response = *std::move(found);
    return found.status();
  });
}

}  // namespace lockstep
