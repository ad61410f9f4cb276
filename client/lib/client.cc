#include "client/lib/client.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/connection.h"
#include "client/lib/dashboard_url.h"

namespace lockstep {
namespace {

// Lists of jobs and models carry whole specs; gRPC's own limit of 4 MiB would hold a few thousand.
constexpr int kMaxMessageBytes = 64 << 20;

// Calls a unary method of a stub with the token and a deadline.
template <typename Response, typename Stub, typename Request>
absl::StatusOr<Response> Call(const Connection& connection, const std::unique_ptr<Stub>& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                           Response*),
                              const Request& request) {
  grpc::ClientContext context;
  connection.PrepareUnary(context);
  Response response;
  const grpc::Status status = ((*stub).*method)(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  connection.dashboard.Hear(context);
  return response;
}

template <typename Request>
Request WithId(const std::string& id) {
  Request request;
  request.set_id(id);
  return request;
}

template <typename Message>
std::vector<Message> ToVector(google::protobuf::RepeatedPtrField<Message>* field) {
  return {std::make_move_iterator(field->begin()), std::make_move_iterator(field->end())};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // The default waits up to two minutes between attempts; a watch must not outsleep a restart.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Whatever proxy the environment names for the web is not for this server.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);

  const auto deadline = absl::ToChronoTime(absl::Now() + options.connect_timeout);
  for (grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
       state != GRPC_CHANNEL_READY; state = channel->GetState(true)) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
      return absl::UnavailableError(absl::StrCat("nothing answers at ", options.address));
    }
    if (!channel->WaitForStateChange(state, deadline)) {
      return absl::UnavailableError(absl::StrCat("no answer from ", options.address, " within ",
                                                 absl::FormatDuration(options.connect_timeout)));
    }
  }
  return std::unique_ptr<Client>(new Client(std::make_unique<Connection>(options, channel)));
}

Client::Client(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Client::~Client() = default;

bool Client::connected() const {
  return connection_->channel->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
}

std::string Client::dashboard() const {
  return DashboardUrl(connection_->dashboard.told(), connection_->options.address);
}

absl::StatusOr<v1::Job> Client::SubmitJob(const v1::JobSpec& spec, const std::string& id,
                                          bool reuse) {
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  request.set_id(id);
  request.set_reuse(reuse);
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::SubmitJob, request);
}

absl::StatusOr<v1::ValidateJobResponse> Client::ValidateJob(const v1::JobSpec& spec) {
  v1::ValidateJobRequest request;
  *request.mutable_spec() = spec;
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::ValidateJob, request);
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::GetJob,
              WithId<v1::GetJobRequest>(id));
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(const v1::ListJobsRequest& request) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::ListJobs, request);
}

absl::StatusOr<v1::ListWorkersResponse> Client::ListWorkers() {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::ListWorkers,
              v1::ListWorkersRequest());
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::CancelJob,
              WithId<v1::CancelJobRequest>(id));
}

absl::StatusOr<v1::Job> Client::PauseJob(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::PauseJob,
              WithId<v1::PauseJobRequest>(id));
}

absl::StatusOr<v1::Job> Client::ResumeJob(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::ResumeJob,
              WithId<v1::ResumeJobRequest>(id));
}

absl::StatusOr<v1::Job> Client::SetJobPriority(const std::string& id, int32_t priority) {
  auto request = WithId<v1::SetJobPriorityRequest>(id);
  request.set_priority(priority);
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::SetJobPriority, request);
}

absl::Status Client::DeleteJob(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::DeleteJob,
              WithId<v1::DeleteJobRequest>(id))
      .status();
}

absl::StatusOr<v1::Weights> Client::GetJobWeights(const std::string& id) {
  return Call(*connection_, connection_->jobs, &v1::JobService::Stub::GetJobWeights,
              WithId<v1::GetJobWeightsRequest>(id));
}

std::unique_ptr<EventStream> Client::WatchJob(const std::string& id, int64_t from_sequence) {
  return std::make_unique<EventStream>(connection_.get(), id, from_sequence);
}

absl::StatusOr<v1::Dataset> Client::CreateDataset(const v1::Dataset& dataset) {
  v1::CreateDatasetRequest request;
  *request.mutable_dataset() = dataset;
  return Call(*connection_, connection_->datasets, &v1::DatasetService::Stub::CreateDataset,
              request);
}

absl::StatusOr<v1::Dataset> Client::GetDataset(const std::string& name) {
  v1::GetDatasetRequest request;
  request.set_name(name);
  return Call(*connection_, connection_->datasets, &v1::DatasetService::Stub::GetDataset, request);
}

absl::StatusOr<std::vector<v1::Dataset>> Client::ListDatasets() {
  auto response = Call(*connection_, connection_->datasets, &v1::DatasetService::Stub::ListDatasets,
                       v1::ListDatasetsRequest());
  if (!response.ok()) return response.status();
  return ToVector(response->mutable_datasets());
}

absl::StatusOr<v1::ModelVersion> Client::GetModel(const std::string& name, int64_t version) {
  v1::GetModelRequest request;
  request.set_name(name);
  request.set_version(version);
  return Call(*connection_, connection_->models, &v1::ModelService::Stub::GetModel, request);
}

absl::StatusOr<std::vector<v1::ModelVersion>> Client::ListModels() {
  auto response = Call(*connection_, connection_->models, &v1::ModelService::Stub::ListModels,
                       v1::ListModelsRequest());
  if (!response.ok()) return response.status();
  return ToVector(response->mutable_models());
}

absl::StatusOr<Prediction> Client::Infer(const std::string& model, int64_t version,
                                         const std::vector<InputTensor>& inputs,
                                         const std::string& output) {
  inference::ModelInferRequest request;
  request.set_model_name(model);
  if (version != 0) request.set_model_version(absl::StrCat(version));
  for (const InputTensor& tensor : inputs) {
    auto* input = request.add_inputs();
    input->set_name(tensor.name);
    input->set_datatype("FP32");
    input->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    request.add_raw_input_contents(tensor.values.data(), tensor.values.size() * sizeof(float));
  }
  if (!output.empty()) request.add_outputs()->set_name(output);

  auto response = Call(*connection_, connection_->inference,
                       &inference::GRPCInferenceService::Stub::ModelInfer, request);
  if (!response.ok()) return response.status();
  if (response->outputs_size() != 1 || response->raw_output_contents_size() != 1) {
    return absl::InternalError(absl::StrCat("model ", model, " answered with ",
                                            response->outputs_size(), " outputs where 1 was due"));
  }
  Prediction prediction;
  prediction.model_version = response->model_version();
  int64_t count = 1;
  for (int64_t dimension : response->outputs(0).shape()) {
    prediction.shape.push_back(dimension);
    count *= dimension;
  }
  const std::string& raw = response->raw_output_contents(0);
  if (count < 0 || raw.size() != count * sizeof(float)) {
    return absl::InternalError(absl::StrCat("model ", model, " answered with ", raw.size(),
                                            " bytes, which do not fit its shape"));
  }
  prediction.values.resize(count);
  std::memcpy(prediction.values.data(), raw.data(), raw.size());
  return prediction;
}

std::unique_ptr<BlobReader> Client::ReadBlob(const std::string& sha256, int64_t offset) {
  return std::make_unique<BlobReader>(connection_.get(), sha256, offset);
}

}  // namespace lockstep
