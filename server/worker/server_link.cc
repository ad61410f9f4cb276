#include "server/worker/server_link.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

constexpr absl::Duration kMinPause = absl::Milliseconds(100);
constexpr absl::Duration kMaxPause = absl::Seconds(2);
// A stream that lasted so long was one that the server had accepted.
constexpr absl::Duration kAccepted = absl::Seconds(2);

// The blob that a message names.
const v1::Blob& BlobOf(const v1::WorkerMessage& message) {
  if (message.has_checkpoint()) return message.checkpoint().blob();
  if (message.has_snapshot()) return message.snapshot().weights();
  return message.outcome().success().weights();
}

}  // namespace

ServerLink::ServerLink(const std::shared_ptr<grpc::Channel>& channel, Options options,
                       BlobClient* blobs)
    : options_(std::move(options)),
      blobs_(*blobs),
      stub_(v1::WorkerService::NewStub(channel)),
      outbox_(options_.spool_directory) {
  connector_ = std::thread([this] { ConnectLoop(); });
}

ServerLink::~ServerLink() {
  if (connector_.joinable()) (void)Close();
}

std::optional<v1::ServerMessage> ServerLink::NextAssignment() {
  absl::MutexLock lock(&mu_);
  const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return lost_ || assignment_.has_value();
  };
  mu_.Await(absl::Condition(&something));
  if (lost_) return std::nullopt;
  return std::exchange(assignment_, std::nullopt);
}

void ServerLink::WaitWhileOnHold() {
  absl::MutexLock lock(&mu_);
  const auto go_on = [this] { return !on_hold() || cancelled(); };
  mu_.Await(absl::Condition(&go_on));
}

bool ServerLink::WaitForCancel(absl::Duration time) {
  absl::MutexLock lock(&mu_);
  const auto stop = [this] { return cancelled(); };
  return mu_.AwaitWithTimeout(absl::Condition(&stop), time);
}

void ServerLink::ConnectLoop() {
  absl::Time lost_since = absl::InfiniteFuture();
  absl::Duration pause = kMinPause;
  while (true) {
    const absl::Time begin = absl::Now();
    const absl::Status status = RunStream();
    absl::MutexLock lock(&mu_);
    const absl::Time now = absl::Now();
    if (heard_ || now - begin >= kAccepted) {
      lost_since = now;
      pause = kMinPause;
    }
    lost_since = std::min(lost_since, now);
    // A server that has just come back may not have written its new token yet.
    const bool refused =
        absl::IsFailedPrecondition(status) || (absl::IsPermissionDenied(status) && !accepted_);
    const auto closing = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closing_; };
    if (refused || now - lost_since >= options_.grace ||
        mu_.AwaitWithTimeout(absl::Condition(&closing), pause)) {
      lost_ = true;
      cancelled_ = true;
      reason_ = status;
      outbox_.Close();
      blobs_.Interrupt();
      return;
    }
    if (pause == kMinPause)
      LogLine(LogLevel::kWarning, "lost the server, trying again",
              {{"job", job_id_}, {"trace_id", trace_id_}, {"status", status}});
    pause = std::min(pause * 2, kMaxPause);
  }
}

absl::Status ServerLink::RunStream() {
  absl::StatusOr<std::string> token = options_.token();
  if (!token.ok()) return absl::UnavailableError(token.status().message());
  blobs_.SetToken(*token);
  grpc::ClientContext context;
  v1::WorkerMessage hello;
  *hello.mutable_hello() = options_.hello;
  hello.mutable_hello()->set_token(*std::move(token));
  {
    absl::MutexLock lock(&mu_);
    heard_ = false;
    stream_ended_ = false;
    if (closing_) return absl::CancelledError("closed");
    context_ = &context;
    if (!job_id_.empty()) {
      hello.set_job_id(job_id_);
      hello.set_attempt(attempt_);
    }
  }
  outbox_.Rewind();
  bool greeted = false;
  grpc::Status finished;
  try {
    const std::unique_ptr<Stream> stream = stub_->Connect(&context);
    std::thread reader([&] { ReadLoop(*stream); });
    greeted = stream->Write(hello);
    if (greeted) WriteLoop(*stream);
    reader.join();
    finished = stream->Finish();
  } catch (const std::exception& error) {
    finished = grpc::Status(grpc::StatusCode::INTERNAL, error.what());
  }
  const absl::Status status(static_cast<absl::StatusCode>(finished.error_code()),
                            finished.error_message());
  // Who has a wrong token hears that first.
  accepted_ |= greeted && !absl::IsPermissionDenied(status);
  absl::MutexLock lock(&mu_);
  accepted_ |= heard_;
  context_ = nullptr;
  hold_ = false;  // a server that has not taken down anything yet does not know whether it can
  return status;
}

void ServerLink::WriteLoop(Stream& stream) {
  while (true) {
    const absl::StatusOr<Outbox::Item> item = outbox_.Next();
    if (absl::IsCancelled(item.status())) return;
    if (!item.ok()) {
      absl::MutexLock lock(&mu_);
      LogLine(LogLevel::kError, "cannot read the spool",
              {{"job", job_id_}, {"trace_id", trace_id_}, {"status", item.status()}});
      context_->TryCancel();
      return;
    }
    if (item->bytes != nullptr && !EnsureBlob(*item)) continue;
    if (!stream.Write(item->message)) return;  // ReadLoop hears why
  }
}

bool ServerLink::EnsureBlob(const Outbox::Item& item) {
  while (true) {
    const absl::Status status = blobs_.Upload(BlobOf(item.message), *item.bytes);
    if (status.ok() || absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) return true;
    absl::MutexLock lock(&mu_);
    const auto stop = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return stream_ended_ || cancelled();
    };
    if (mu_.AwaitWithTimeout(absl::Condition(&stop), kMinPause)) return false;
  }
}

void ServerLink::ReadLoop(Stream& stream) {
  v1::ServerMessage message;
  while (stream.Read(&message)) Handle(std::move(message));
  {
    absl::MutexLock lock(&mu_);
    stream_ended_ = true;
  }
  outbox_.Interrupt();
}

void ServerLink::Handle(v1::ServerMessage message) {
  {
    absl::MutexLock lock(&mu_);
    heard_ = true;
    if (!message.has_assignment()) {
      if (message.job_id() != job_id_ || message.attempt() != attempt_) return;
      if (message.has_yield()) yield_ = true;
      if (message.has_hold()) hold_ = message.hold().on();
      if (message.has_snapshot_request()) {
        snapshot_request_ = message.snapshot_request().request_id();
      }
    }
  }
  if (message.has_assignment()) return Begin(std::move(message));
  if (message.has_cancel()) return CancelAssignment();
  if (message.has_acknowledgement() && outbox_.Acknowledge(message.acknowledgement().number())) {
    absl::MutexLock lock(&mu_);
    job_id_.clear();
  }
}

void ServerLink::Begin(v1::ServerMessage assignment) {
  outbox_.Begin(assignment.job_id(), assignment.attempt(), assignment.assignment().trace_id());
  blobs_.Resume();
  absl::MutexLock lock(&mu_);
  job_id_ = assignment.job_id();
  attempt_ = assignment.attempt();
  trace_id_ = assignment.assignment().trace_id();
  cancelled_ = false;
  yield_ = false;
  hold_ = false;
  snapshot_request_ = 0;
  assignment_ = std::move(assignment);
}

void ServerLink::CancelAssignment() {
  {
    absl::MutexLock lock(&mu_);
    cancelled_ = true;
  }
  blobs_.Interrupt();
  if (!outbox_.Drop()) return;  // its outcome is yet to come
  v1::WorkerMessage message;
  message.mutable_outcome()->set_cancelled(true);
  outbox_.Push(std::move(message));
}

absl::Status ServerLink::Close() {
  {
    absl::MutexLock lock(&mu_);
    closing_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  blobs_.Interrupt();
  connector_.join();
  absl::MutexLock lock(&mu_);
  return reason_;
}

}  // namespace lockstep
