#include "server/api/model_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

constexpr size_t kMaxVersions = 100;

}  // namespace

absl::StatusOr<std::vector<v1::ModelVersion>> ModelService::NewestVersions(
    const std::string& name) const {
  absl::StatusOr<std::vector<int64_t>> versions = store_.ListModelVersions(name);
  if (!versions.ok()) return versions.status();
  if (versions->empty()) return absl::NotFoundError(absl::StrCat("no model ", name));
  std::vector<v1::ModelVersion> newest;
  for (auto v = versions->rbegin(); v != versions->rend() && newest.size() < kMaxVersions; ++v) {
    absl::StatusOr<v1::ModelVersion> model = store_.GetModel(name, *v);
    if (!model.ok()) return model.status();
    newest.push_back(*std::move(model));
  }
  return newest;
}

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  return gate_.Unary(context, "ModelService.ListModels", [=, this]() -> absl::Status {
    absl::StatusOr<std::vector<v1::ModelVersion>> found =
        request->name().empty() ? store_.ListModels() : NewestVersions(request->name());
    if (!found.ok()) return found.status();
    for (v1::ModelVersion& model : *found) {
      model.mutable_receipt()->clear_spec();
      model.mutable_receipt()->clear_epochs();
      *response->add_models() = std::move(model);
    }
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
