#include "server/worker/outbox.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

constexpr absl::Duration kRetryPause = absl::Milliseconds(100);

}  // namespace

bool Outbox::Pending::open() const {
  return item.message.has_report() && item.message.report().events_size() < kMaxEvents &&
         size < kMaxReportBytes;
}

Outbox::Outbox(std::string spool_directory) : spool_(std::move(spool_directory), kMemoryBytes) {
  keeper_ = std::thread([this] { KeepLoop(); });
}

Outbox::~Outbox() {
  Close();
  keeper_.join();
}

void Outbox::Begin(const std::string& job_id, int32_t attempt, const std::string& trace_id) {
  absl::MutexLock spool_lock(&spool_mu_);
  spool_.Clear();
  job_id_ = job_id;
  attempt_ = attempt;
  trace_id_ = trace_id;
  absl::MutexLock lock(&mu_);
  ForgetPending();
  acknowledged_ = 0;
  next_ = 1;
  last_ = 0;
}

void Outbox::Push(v1::WorkerMessage message, std::shared_ptr<const std::string> bytes) {
  const int64_t size = static_cast<int64_t>(message.ByteSizeLong());
  absl::MutexLock lock(&mu_);
  const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return closed_ || !spool_failed_ || pending_bytes_ < kMemoryBytes;
  };
  mu_.Await(absl::Condition(&room));
  if (closed_ || has_outcome_) return;
  has_outcome_ = message.has_outcome();
  pending_bytes_ += size;
  if (message.has_report() && !pending_.empty() && pending_.back().open()) {
    Pending& last = pending_.back();
    v1::Report& report = *last.item.message.mutable_report();
    if (report.events_size() + message.report().events_size() <= kMaxEvents &&
        last.size + size <= kMaxReportBytes) {
      for (v1::Event& event : *message.mutable_report()->mutable_events()) {
        *report.add_events() = std::move(event);
      }
      last.size += size;
      return;
    }
  }
  pending_.push_back({{std::move(message), std::move(bytes)}, size});
}

bool Outbox::Drop() {
  absl::MutexLock spool_lock(&spool_mu_);
  spool_.DropTo(spool_.last());
  absl::MutexLock lock(&mu_);
  const bool had_outcome = has_outcome_;
  ForgetPending();
  acknowledged_ = spool_.last();
  next_ = acknowledged_ + 1;
  return had_outcome;
}

bool Outbox::Acknowledge(int64_t number) {
  absl::MutexLock spool_lock(&spool_mu_);
  spool_.DropTo(number);
  absl::MutexLock lock(&mu_);
  acknowledged_ = spool_.first() - 1;
  next_ = std::max(next_, spool_.first());
  bytes_.erase(bytes_.begin(), bytes_.upper_bound(number));
  return has_outcome_ && pending_.empty() && acknowledged_ == last_;
}

void Outbox::Rewind() {
  absl::MutexLock lock(&mu_);
  next_ = acknowledged_ + 1;
  interrupted_ = false;
}

absl::StatusOr<Outbox::Item> Outbox::Next() {
  while (true) {
    bool numbered;
    {
      absl::MutexLock lock(&mu_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        if (interrupted_ || closed_) return true;
        if (next_ - acknowledged_ > kWindow) return false;
        // What the disk does not take the keeper tries again.
        return next_ <= last_ || (!pending_.empty() && !spool_failed_);
      };
      mu_.Await(absl::Condition(&something));
      if (interrupted_ || closed_) return absl::CancelledError("the stream has ended");
      numbered = next_ <= last_;
    }
    if (!numbered) (void)Keep(/*send_open=*/true);
    absl::MutexLock spool_lock(&spool_mu_);
    Item item;
    int64_t number;
    {
      absl::MutexLock lock(&mu_);
      if (next_ > last_) continue;  // dropped meanwhile
      number = next_++;
      if (const auto found = bytes_.find(number); found != bytes_.end()) item.bytes = found->second;
    }
    const absl::StatusOr<std::string> serialized = spool_.Read(number);
    if (!serialized.ok()) return serialized.status();
    if (!item.message.ParseFromString(*serialized)) {
      return absl::DataLossError("the spool does not hold what was written to it");
    }
    return item;
  }
}

void Outbox::Interrupt() {
  absl::MutexLock lock(&mu_);
  interrupted_ = true;
}

bool Outbox::HoldsBytes() const {
  absl::MutexLock lock(&mu_);
  return !bytes_.empty() || std::any_of(pending_.begin(), pending_.end(), [](const auto& pending) {
    return pending.item.bytes != nullptr;
  });
}

void Outbox::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

void Outbox::KeepLoop() {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        // After a failure the first that has room again may be an open one.
        return closed_ || HasClosed() || (spool_failed_ && !pending_.empty());
      };
      mu_.Await(absl::Condition(&something));
      if (closed_) return;
    }
    if (Keep(/*send_open=*/false)) continue;
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(absl::Condition(&closed_), kRetryPause);
  }
}

bool Outbox::HasClosed() const {
  return pending_.size() > 1 || (!pending_.empty() && !pending_.front().open());
}

bool Outbox::Keep(bool send_open) {
  absl::MutexLock spool_lock(&spool_mu_);
  std::deque<Pending> some;
  {
    absl::MutexLock lock(&mu_);
    const bool any = send_open || spool_failed_;
    while (HasClosed() || (any && some.empty() && !pending_.empty())) {
      pending_bytes_ -= pending_.front().size;
      some.push_back(std::move(pending_.front()));
      pending_.pop_front();
    }
  }
  absl::Status status;
  std::map<int64_t, std::shared_ptr<const std::string>> bytes;
  while (!some.empty()) {
    v1::WorkerMessage& message = some.front().item.message;
    message.set_job_id(job_id_);
    message.set_attempt(attempt_);
    message.set_number(spool_.last() + 1);
    status = spool_.Append(message.SerializeAsString());
    if (!status.ok()) break;
    if (some.front().item.bytes) bytes[spool_.last()] = std::move(some.front().item.bytes);
    some.pop_front();
  }
  absl::MutexLock lock(&mu_);
  if (!status.ok() && !spool_failed_) {
    LogLine(LogLevel::kError, "training may have to wait",
            {{"job", job_id_}, {"attempt", attempt_}, {"trace_id", trace_id_}, {"status", status}});
  }
  spool_failed_ = !status.ok();
  last_ = spool_.last();
  bytes_.merge(bytes);
  while (!some.empty()) {  // what has not found room goes back to where it was
    pending_bytes_ += some.back().size;
    pending_.push_front(std::move(some.back()));
    some.pop_back();
  }
  return status.ok();
}

void Outbox::ForgetPending() {
  pending_.clear();
  pending_bytes_ = 0;
  has_outcome_ = false;
  spool_failed_ = false;
  bytes_.clear();
}

}  // namespace lockstep
