#include "server/worker/checkpoint_saver.h"

#include <time.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "core/data/digest.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

constexpr absl::Duration kDefaultEvery = absl::Seconds(30);
constexpr absl::Duration kUploadPause = absl::Milliseconds(300);
constexpr double kPausePerCost = 20;  // at most 5 % of the time

absl::Duration ThreadTime() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

absl::Duration Every(const v1::CheckpointPolicy& policy) {
  if (policy.every_seconds() > 0) return absl::Seconds(policy.every_seconds());
  return policy.every_steps() > 0 ? absl::InfiniteDuration() : kDefaultEvery;
}

}  // namespace

absl::Status UploadPatiently(const v1::Blob& blob, std::string_view bytes, BlobClient& blobs,
                             ServerLink& link) {
  bool refused = false;
  while (!link.cancelled()) {
    const absl::Status status = blobs.Upload(blob, bytes);
    if (status.ok()) return status;
    // A torn upload that was resumed looks the same, but only once.
    if (absl::IsInvalidArgument(status) || absl::IsDataLoss(status)) {
      if (std::exchange(refused, true)) return status;
    }
    (void)link.WaitForCancel(kUploadPause);
  }
  return absl::CancelledError("the assignment was cancelled");
}

v1::Blob DescribeBlob(const std::string& bytes) {
  v1::Blob blob;
  blob.set_sha256(Sha256(bytes));
  blob.set_size_bytes(static_cast<int64_t>(bytes.size()));
  return blob;
}

CheckpointSaver::CheckpointSaver(const JobPlan& plan, std::string previous_sha256,
                                 BlobClient* blobs, ServerLink* link)
    : plan_(plan),
      every_(Every(plan.spec.checkpoints())),
      blobs_(*blobs),
      link_(*link),
      previous_sha256_(std::move(previous_sha256)),
      next_(absl::Now() + every_) {
  thread_ = std::thread([this, ids = LogScope::Fields()] {
    const LogScope scope(ids);
    Loop();
  });
}

CheckpointSaver::~CheckpointSaver() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  thread_.join();
}

bool CheckpointSaver::Due(int64_t step, bool epoch_ended) {
  const v1::CheckpointPolicy& policy = plan_.spec.checkpoints();
  absl::MutexLock lock(&mu_);
  if (!tasks_.empty()) return false;
  const bool due = (policy.every_steps() > 0 && step % policy.every_steps() == 0) ||
                   (epoch_ended && !policy.keep_best().empty()) || absl::Now() >= next_;
  return due && !link_.HoldsBytes();
}

void CheckpointSaver::Save(RunSnapshot snapshot, absl::Duration stall) {
  auto shared = std::make_shared<const RunSnapshot>(std::move(snapshot));
  Post([this, shared, stall] { SaveNow(*shared, stall); });
}

void CheckpointSaver::SendWithBlob(v1::WorkerMessage message, v1::Blob blob,
                                   std::shared_ptr<const std::string> bytes) {
  Post([this, message = std::move(message), blob = std::move(blob), bytes = std::move(bytes)] {
    if (UploadPatiently(blob, *bytes, blobs_, link_).ok()) link_.Send(message, bytes);
  });
}

void CheckpointSaver::WaitUntilIdle() {
  absl::MutexLock lock(&mu_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return tasks_.empty(); };
  mu_.Await(absl::Condition(&idle));
}

void CheckpointSaver::Post(std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  tasks_.push_back(std::move(task));
}

void CheckpointSaver::Loop() {
  while (true) {
    std::function<void()>* task;
    {
      absl::MutexLock lock(&mu_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stop_ || !tasks_.empty();
      };
      mu_.Await(absl::Condition(&something));
      if (tasks_.empty() || (stop_ && link_.cancelled())) return;
      task = &tasks_.front();
    }
    try {
      (*task)();
    } catch (const std::exception& error) {
      LogLine(LogLevel::kError, "cannot save", {{"error", error.what()}});
    }
    absl::MutexLock lock(&mu_);
    tasks_.pop_front();
  }
}

void CheckpointSaver::SaveNow(const RunSnapshot& snapshot, absl::Duration stall) {
  const absl::Time begin = absl::Now();
  const absl::Duration cost_before = ThreadTime();
  const auto bytes =
      std::make_shared<const std::string>(WriteCheckpoint(plan_, snapshot, previous_sha256_));
  v1::WorkerMessage message;
  v1::CheckpointReport& report = *message.mutable_checkpoint();
  *report.mutable_blob() = DescribeBlob(*bytes);
  report.set_step(snapshot.state.step());
  report.set_state_hash(snapshot.StateHash());
  report.set_previous_sha256(previous_sha256_);
  const absl::Status uploaded = UploadPatiently(report.blob(), *bytes, blobs_, link_);
  report.set_stall_ms(absl::ToDoubleMilliseconds(stall));
  report.set_save_ms(absl::ToDoubleMilliseconds(absl::Now() - begin));
  if (uploaded.ok()) {
    previous_sha256_ = report.blob().sha256();
    link_.Send(std::move(message), bytes);
  } else if (!absl::IsCancelled(uploaded)) {
    LogLine(LogLevel::kError, "cannot save a checkpoint",
            {{"step", report.step()}, {"status", uploaded}});
  }
  const absl::Duration cost = stall + ThreadTime() - cost_before;
  absl::MutexLock lock(&mu_);
  next_ = absl::Now() + std::max(every_, kPausePerCost * cost);
}

}  // namespace lockstep
