#include "client/lib/event_stream.h"

#include <algorithm>
#include <utility>

#include "client/lib/connection.h"

namespace lockstep {

struct EventStream::Call {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::Event>> reader;
};

EventStream::EventStream(const Connection* connection, std::string job_id, int64_t from_sequence)
    : connection_(connection),
      job_id_(std::move(job_id)),
      next_sequence_(std::max<int64_t>(1, from_sequence)) {}

EventStream::~EventStream() {
  if (call_ != nullptr) call_->context.TryCancel();
}

absl::Status EventStream::Open() {
  auto call = std::make_unique<Call>();
  connection_->Prepare(call->context);
  v1::WatchJobRequest request;
  request.set_id(job_id_);
  request.set_from_sequence(next_sequence_);
  call->reader = connection_->jobs->WatchJob(&call->context, request);
  absl::MutexLock lock(&mutex_);
  if (cancelled_) {
    call->context.TryCancel();
    return absl::CancelledError("the watch was ended");
  }
  call_ = std::move(call);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<v1::Event>> EventStream::Next() {
  Retries retries(connection_->options.retry);
  while (true) {
    if (call_ == nullptr) {
      if (absl::Status opened = Open(); !opened.ok()) return opened;
    }
    v1::Event event;
    if (call_->reader->Read(&event)) {
      next_sequence_ = event.sequence() + 1;
      return event;
    }
    const absl::Status status = FromGrpc(call_->reader->Finish());
    if (status.ok()) return std::nullopt;

    absl::MutexLock lock(&mutex_);
    call_ = nullptr;
    if (cancelled_) return absl::CancelledError("the watch was ended");
    absl::Duration pause;
    if (!IsTransportFailure(status) || !retries.Next(&pause)) return status;
    mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), pause);
  }
}

void EventStream::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (call_ != nullptr) call_->context.TryCancel();
}

}  // namespace lockstep
