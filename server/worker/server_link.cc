#include "server/worker/server_link.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

// Reports are merged up to here, so that a message stays far below gRPC's 4 MiB.
constexpr int kMaxEvents = 256;

}  // namespace

ServerLink::ServerLink(const std::shared_ptr<grpc::Channel>& channel, const v1::Hello& hello,
                       BlobClient* blobs)
    : blobs_(*blobs), stub_(v1::WorkerService::NewStub(channel)) {
  stream_ = stub_->Connect(&context_);
  v1::WorkerMessage message;
  *message.mutable_hello() = hello;
  Send(std::move(message));
  reader_ = std::thread([this] { ReadLoop(); });
  writer_ = std::thread([this] { WriteLoop(); });
}

ServerLink::~ServerLink() {
  if (reader_.joinable()) (void)Close();
}

std::optional<v1::ServerMessage> ServerLink::NextAssignment() {
  absl::MutexLock lock(&mu_);
  const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return broken_ || assignment_.has_value();
  };
  mu_.Await(absl::Condition(&something));
  if (broken_) return std::nullopt;
  return std::exchange(assignment_, std::nullopt);
}

void ServerLink::Send(v1::WorkerMessage message) { Push({std::move(message), {}, {}}); }

void ServerLink::SendWithBlob(v1::WorkerMessage message, v1::Blob blob, std::string bytes) {
  Push({std::move(message), std::move(blob), std::move(bytes)});
}

void ServerLink::Push(Outgoing outgoing) {
  absl::MutexLock lock(&mu_);
  const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return broken_ || outgoing_.size() < kMaxWaiting;
  };
  mu_.Await(absl::Condition(&room));
  if (broken_) return;
  outgoing.message.set_job_id(job_id_);
  outgoing.message.set_attempt(attempt_);
  outgoing_.push_back(std::move(outgoing));
}

std::optional<ServerLink::Outgoing> ServerLink::TakeOutgoing() {
  absl::MutexLock lock(&mu_);
  const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return broken_ || !outgoing_.empty();
  };
  mu_.Await(absl::Condition(&something));
  if (broken_) return std::nullopt;
  Outgoing first = std::move(outgoing_.front());
  outgoing_.pop_front();
  // A stream carries one assignment at a time, and its outcome stands between it and the next.
  while (first.message.has_report() && !outgoing_.empty() &&
         outgoing_.front().message.has_report() &&
         first.message.report().events_size() < kMaxEvents) {
    first.message.mutable_report()->MergeFrom(outgoing_.front().message.report());
    outgoing_.pop_front();
  }
  return first;
}

void ServerLink::WriteLoop() {
  try {
    while (std::optional<Outgoing> next = TakeOutgoing()) {
      if (next->blob.size_bytes() > 0) {
        if (absl::Status status = blobs_.Upload(next->blob, next->bytes); !status.ok()) {
          return Break(absl::Status(status.code(),
                                    absl::StrCat("cannot upload weights: ", status.message())));
        }
      }
      if (!stream_->Write(next->message)) return;  // ReadLoop hears why
    }
  } catch (const std::exception& error) {
    Break(absl::InternalError(absl::StrCat("while sending: ", error.what())));
  }
}

void ServerLink::ReadLoop() {
  try {
    v1::ServerMessage message;
    while (stream_->Read(&message)) {
      absl::MutexLock lock(&mu_);
      if (message.has_assignment()) {
        job_id_ = message.job_id();
        attempt_ = message.attempt();
        stop_ = false;
        snapshot_request_ = 0;
        assignment_ = std::move(message);
      } else if (message.job_id() == job_id_ && message.attempt() == attempt_) {
        if (message.has_cancel()) stop_ = true;
        if (message.has_snapshot_request()) {
          snapshot_request_ = message.snapshot_request().request_id();
        }
      }
    }
    Break(absl::OkStatus());
  } catch (const std::exception& error) {
    Break(absl::InternalError(absl::StrCat("while receiving: ", error.what())));
  }
}

void ServerLink::Break(absl::Status reason) {
  // A stream that the server ended has a status, which a cancellation could hide.
  if (!reason.ok()) context_.TryCancel();
  absl::MutexLock lock(&mu_);
  if (broken_) return;
  broken_ = true;
  reason_ = std::move(reason);
  stop_ = true;
}

absl::Status ServerLink::Close() {
  bool open;
  {
    absl::MutexLock lock(&mu_);
    open = !broken_;
  }
  if (open) context_.TryCancel();
  reader_.join();
  writer_.join();
  const grpc::Status finished = stream_->Finish();
  absl::MutexLock lock(&mu_);
  if (!reason_.ok()) return reason_;
  return absl::Status(static_cast<absl::StatusCode>(finished.error_code()),
                      finished.error_message());
}

}  // namespace lockstep
