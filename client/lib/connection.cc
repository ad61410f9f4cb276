#include "client/lib/connection.h"

#include <algorithm>

#include "client/lib/dashboard_url.h"

namespace lockstep {

Connection::Connection(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel)
    : options(options),
      channel(channel),
      jobs(v1::JobService::NewStub(channel)),
      datasets(v1::DatasetService::NewStub(channel)),
      models(v1::ModelService::NewStub(channel)),
      blobs(v1::BlobService::NewStub(channel)),
      inference(inference::GRPCInferenceService::NewStub(channel)) {}

void DashboardNotice::Hear(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerInitialMetadata();
  const auto entry = metadata.find(kDashboardKey);
  if (entry == metadata.end()) return;
  absl::MutexLock lock(&mutex_);
  told_.assign(entry->second.data(), entry->second.size());
}

std::string DashboardNotice::told() const {
  absl::MutexLock lock(&mutex_);
  return told_;
}

void Connection::Prepare(grpc::ClientContext& context) const {
  if (!options.token.empty()) context.AddMetadata("authorization", "Bearer " + options.token);
}

void Connection::PrepareUnary(grpc::ClientContext& context) const {
  Prepare(context);
  context.set_deadline(absl::ToChronoTime(absl::Now() + options.call_timeout));
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

bool IsTransportFailure(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsCancelled(status);
}

void Retries::Progress() {
  attempts_ = 0;
  pause_ = policy_.first_pause;
}

bool Retries::Next(absl::Duration* pause) {
  if (attempts_ >= policy_.attempts) return false;
  ++attempts_;
  *pause = pause_;
  pause_ = std::min(pause_ * 2, policy_.longest_pause);
  return true;
}

}  // namespace lockstep
