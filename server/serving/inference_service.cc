#include "server/serving/inference_service.h"

#include <chrono>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/serving/infer_request.h"

namespace lockstep {
namespace {

void DescribeTensor(const ModelTensor& described,
                    inference::ModelMetadataResponse::TensorMetadata& tensor) {
  tensor.set_name(described.name);
  tensor.set_datatype(kInferDatatype);
  tensor.add_shape(-1);
  for (int64_t dimension : described.shape) tensor.add_shape(dimension);
}

absl::Status StillWanted(const grpc::CallbackServerContext& context) {
  if (context.deadline() <= std::chrono::system_clock::now()) {
    return absl::DeadlineExceededError("the deadline passed while the request waited");
  }
  if (context.IsCancelled()) return absl::CancelledError("the client cancelled the request");
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* InferenceService::ServerLive(grpc::CallbackServerContext* context,
                                                       const inference::ServerLiveRequest* request,
                                                       inference::ServerLiveResponse* response) {
  return gate_->UnaryAsync(context, "GRPCInferenceService.ServerLive", {request, response},
                           [=](Gate::Done done) {
                             response->set_live(true);
                             done(absl::OkStatus());
                           });
}

grpc::ServerUnaryReactor* InferenceService::ServerReady(
    grpc::CallbackServerContext* context, const inference::ServerReadyRequest* request,
    inference::ServerReadyResponse* response) {
  return gate_->UnaryAsync(context, "GRPCInferenceService.ServerReady", {request, response},
                           [=, this](Gate::Done done) {
                             response->set_ready(repository_->Ready());
                             done(absl::OkStatus());
                           });
}

grpc::ServerUnaryReactor* InferenceService::ServerMetadata(
    grpc::CallbackServerContext* context, const inference::ServerMetadataRequest* request,
    inference::ServerMetadataResponse* response) {
  return gate_->UnaryAsync(context, "GRPCInferenceService.ServerMetadata", {request, response},
                           [=](Gate::Done done) {
                             response->set_name("lockstep");
                             response->set_version(LOCKSTEP_VERSION);
                             done(absl::OkStatus());
                           });
}

grpc::ServerUnaryReactor* InferenceService::ModelReady(grpc::CallbackServerContext* context,
                                                       const inference::ModelReadyRequest* request,
                                                       inference::ModelReadyResponse* response) {
  return gate_->UnaryAsync(
      context, "GRPCInferenceService.ModelReady", {request, response}, [=, this](Gate::Done done) {
        Find(request->name(), request->version(),
             [=, done = std::move(done)](absl::StatusOr<Handle> model) mutable {
               response->set_ready(model.ok());
               done(absl::IsUnavailable(model.status()) ? absl::OkStatus() : model.status());
             });
      });
}

grpc::ServerUnaryReactor* InferenceService::ModelMetadata(
    grpc::CallbackServerContext* context, const inference::ModelMetadataRequest* request,
    inference::ModelMetadataResponse* response) {
  return gate_->UnaryAsync(
      context, "GRPCInferenceService.ModelMetadata", {request, response},
      [=, this](Gate::Done done) {
        Find(request->name(), request->version(),
             [=, this, done = std::move(done)](absl::StatusOr<Handle> model) mutable {
               if (model.ok()) Describe(**model, *response);
               done(model.status());
             });
      });
}

grpc::ServerUnaryReactor* InferenceService::ModelInfer(grpc::CallbackServerContext* context,
                                                       const inference::ModelInferRequest* request,
                                                       inference::ModelInferResponse* response) {
  return gate_->UnaryAsync(
      context, "GRPCInferenceService.ModelInfer", {request, response}, [=, this](Gate::Done done) {
        Find(request->model_name(), request->model_version(),
             [=, this, done = std::move(done)](absl::StatusOr<Handle> model) mutable {
               // What is not served may have any name.
               const std::string name = model.ok() ? request->model_name() : "";
               Gate::Done counted = [this, name, done = std::move(done)](absl::Status s) mutable {
                 gate_->metrics()->InferenceEnded(name, s.code());
                 done(std::move(s));
               };
               if (!model.ok()) return counted(model.status());
               Infer(*std::move(model), context, *request, *response, std::move(counted));
             });
      });
}

void InferenceService::Infer(Handle model, grpc::CallbackServerContext* context,
                             const inference::ModelInferRequest& request,
                             inference::ModelInferResponse& response, Gate::Done done) {
  absl::StatusOr<InferRows> rows = ParseInferRequest(request, *model->network, max_response_bytes_);
  if (!rows.ok()) return done(rows.status());
  Batcher& batcher = *model->batcher;
  batcher.Submit({.samples = rows->samples,
                  .x = rows->x,
                  .wanted = [context] { return StillWanted(*context); },
                  .done =
                      [&request, &response, rows = *rows, model = std::move(model),
                       done = std::move(done)](Batcher::Answer y) mutable {
                        if (y.ok()) {
                          FillInferResponse(request, rows, model->record, *model->network, *y,
                                            response);
                        }
                        done(y.status());
                      }});
}

void InferenceService::Find(const std::string& name, const std::string& version,
                            ModelRepository::Found found) {
  absl::StatusOr<int64_t> number = ParseModelVersion(version);
  if (!number.ok()) return std::move(found)(number.status());
  repository_->Find(name, *number, std::move(found));
}

void InferenceService::Describe(const ServedModel& model,
                                inference::ModelMetadataResponse& response) const {
  response.set_name(model.record.name());
  for (int64_t version : repository_->Versions(model.record.name())) {
    response.add_versions(absl::StrCat(version));
  }
  response.set_platform("lockstep_safetensors");
  for (const ModelTensor& input : model.network->inputs()) {
    DescribeTensor(input, *response.add_inputs());
  }
  for (const ModelTensor& output : model.network->outputs()) {
    DescribeTensor(output, *response.add_outputs());
  }
}

}  // namespace lockstep
