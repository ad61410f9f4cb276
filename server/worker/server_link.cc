#include "server/worker/server_link.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep {
namespace {

constexpr absl::Duration kMinPause = absl::Milliseconds(100);
constexpr absl::Duration kMaxPause = absl::Seconds(2);
// A stream that lasted so long was one that the server had accepted.
constexpr absl::Duration kAccepted = absl::Seconds(2);

}  // namespace

ServerLink::ServerLink(const std::shared_ptr<grpc::Channel>& channel, Options options,
                       BlobClient* blobs)
    : options_(std::move(options)),
      blobs_(*blobs),
      stub_(v1::WorkerService::NewStub(channel)),
      spool_(options_.spool_directory, kMemoryBytes) {
  keeper_ = std::thread([this] { KeepLoop(); });
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

void ServerLink::Send(v1::WorkerMessage message) {
  absl::MutexLock lock(&mu_);
  const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return lost_ || cancelled() || !spool_failed_ || waiting_bytes_ < kMemoryBytes;
  };
  mu_.Await(absl::Condition(&room));
  if (lost_ || outcome_sent_) return;
  Enqueue(std::move(message));
}

void ServerLink::Enqueue(v1::WorkerMessage message) {
  message.set_job_id(job_id_);
  message.set_attempt(attempt_);
  message.set_number(++last_number_);
  if (message.has_outcome()) outcome_sent_ = true;
  waiting_.push_back(message.SerializeAsString());
  waiting_bytes_ += static_cast<int64_t>(waiting_.back().size());
}

void ServerLink::KeepLoop() {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return lost_ || !waiting_.empty();
      };
      mu_.Await(absl::Condition(&something));
      if (lost_) return;
    }
    if (KeepSome()) continue;
    absl::MutexLock lock(&mu_);
    const auto lost = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return lost_; };
    mu_.AwaitWithTimeout(absl::Condition(&lost), kMinPause);
  }
}

bool ServerLink::KeepSome() {
  absl::MutexLock spool_lock(&spool_mu_);
  std::deque<std::string> some;
  {
    absl::MutexLock lock(&mu_);
    some.swap(waiting_);
    waiting_bytes_ = 0;
  }
  absl::Status status;
  while (!some.empty()) {
    status = spool_.Append(some.front());
    if (!status.ok()) break;
    some.pop_front();
  }
  absl::MutexLock lock(&mu_);
  if (!status.ok() && !spool_failed_)
    spdlog::error("training may have to wait: {}", status.ToString());
  spool_failed_ = !status.ok();
  spooled_ = spool_.last();
  while (!some.empty()) {  // what has not found room goes back to where it was
    waiting_bytes_ += static_cast<int64_t>(some.back().size());
    waiting_.push_front(std::move(some.back()));
    some.pop_back();
  }
  return status.ok();
}

void ServerLink::ConnectLoop() {
  absl::Time lost_since = absl::InfiniteFuture();
  absl::Duration pause = kMinPause;
  bool accepted = false;  // by any server yet
  while (true) {
    const absl::Time begin = absl::Now();
    const absl::Status status = RunStream();
    absl::MutexLock lock(&mu_);
    const absl::Time now = absl::Now();
    if (heard_ || now - begin >= kAccepted) {
      accepted = true;
      lost_since = now;
      pause = kMinPause;
    }
    lost_since = std::min(lost_since, now);
    // A server that has just come back may not have written its new token yet.
    const bool refused =
        absl::IsFailedPrecondition(status) || (absl::IsPermissionDenied(status) && !accepted);
    const auto closing = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closing_; };
    if (refused || now - lost_since >= options_.grace ||
        mu_.AwaitWithTimeout(absl::Condition(&closing), pause)) {
      lost_ = true;
      cancelled_ = true;
      reason_ = status;
      return;
    }
    if (pause == kMinPause) spdlog::warn("lost the server, trying again: {}", status.ToString());
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
    absl::MutexLock spool_lock(&spool_mu_);
    absl::MutexLock lock(&mu_);
    heard_ = false;
    stream_ended_ = false;
    if (closing_) return absl::CancelledError("closed");
    context_ = &context;
    hold_ = false;  // who has not taken down anything yet does not know whether it can
    next_to_write_ = spool_.first();
    if (!job_id_.empty()) {
      hello.set_job_id(job_id_);
      hello.set_attempt(attempt_);
    }
  }
  grpc::Status finished;
  try {
    const std::unique_ptr<Stream> stream = stub_->Connect(&context);
    std::thread reader([&] { ReadLoop(*stream); });
    if (stream->Write(hello)) WriteLoop(*stream);
    reader.join();
    finished = stream->Finish();
  } catch (const std::exception& error) {
    finished = grpc::Status(grpc::StatusCode::INTERNAL, error.what());
  }
  absl::MutexLock lock(&mu_);
  context_ = nullptr;
  return absl::Status(static_cast<absl::StatusCode>(finished.error_code()),
                      finished.error_message());
}

void ServerLink::WriteLoop(Stream& stream) {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stream_ended_ || next_to_write_ <= spooled_;
      };
      mu_.Await(absl::Condition(&something));
      if (stream_ended_) return;
    }
    v1::WorkerMessage message;
    {
      absl::MutexLock spool_lock(&spool_mu_);
      absl::MutexLock lock(&mu_);
      next_to_write_ = std::max(next_to_write_, spool_.first());
      if (next_to_write_ > spool_.last()) continue;  // an assignment ended meanwhile
      const absl::StatusOr<std::string> bytes = spool_.Read(next_to_write_);
      if (!bytes.ok() || !message.ParseFromString(*bytes)) {
        spdlog::error("cannot read the spool: {}", bytes.status().ToString());
        context_->TryCancel();
        return;
      }
      ++next_to_write_;
    }
    if (!stream.Write(message)) return;  // ReadLoop hears why
  }
}

void ServerLink::ReadLoop(Stream& stream) {
  v1::ServerMessage message;
  while (stream.Read(&message)) Handle(std::move(message));
  absl::MutexLock lock(&mu_);
  stream_ended_ = true;
}

void ServerLink::Handle(v1::ServerMessage message) {
  absl::MutexLock spool_lock(&spool_mu_);
  absl::MutexLock lock(&mu_);
  heard_ = true;
  if (message.has_assignment()) return Begin(std::move(message));
  if (message.job_id() != job_id_ || message.attempt() != attempt_) return;
  if (message.has_cancel()) CancelAssignment();
  if (message.has_yield()) yield_ = true;
  if (message.has_hold()) hold_ = message.hold().on();
  if (message.has_snapshot_request()) {
    snapshot_request_ = message.snapshot_request().request_id();
  }
  if (message.has_acknowledgement()) {
    const int64_t number = message.acknowledgement().number();
    spool_.DropTo(number);
    if (outcome_sent_ && number >= last_number_) job_id_.clear();
  }
}

void ServerLink::Begin(v1::ServerMessage assignment) {
  spool_.Clear();
  waiting_.clear();
  waiting_bytes_ = 0;
  spooled_ = 0;
  last_number_ = 0;
  next_to_write_ = 1;
  outcome_sent_ = false;
  job_id_ = assignment.job_id();
  attempt_ = assignment.attempt();
  cancelled_ = false;
  yield_ = false;
  hold_ = false;
  snapshot_request_ = 0;
  assignment_ = std::move(assignment);
}

void ServerLink::CancelAssignment() {
  cancelled_ = true;
  const bool over = outcome_sent_;
  // Numbers go on where they were: only what is left unsaid has none to wait for it.
  last_number_ -= static_cast<int64_t>(waiting_.size());
  waiting_.clear();
  waiting_bytes_ = 0;
  spool_.DropTo(spool_.last());
  if (!over) return;  // the outcome is yet to come
  v1::WorkerMessage message;
  message.mutable_outcome()->set_cancelled(true);
  Enqueue(std::move(message));
}

absl::Status ServerLink::Close() {
  {
    absl::MutexLock lock(&mu_);
    closing_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  connector_.join();
  keeper_.join();
  absl::MutexLock lock(&mu_);
  return reason_;
}

}  // namespace lockstep
