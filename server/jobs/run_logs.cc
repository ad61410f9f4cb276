#include "server/jobs/run_logs.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_state.h"
#include "server/store/files.h"

namespace lockstep {
namespace {

// The newest state event, read from the end; one without a state when there is none.
absl::StatusOr<v1::Event> LastStateEvent(const EventLog& log) {
  constexpr int kBatch = 64;
  for (int64_t end = log.last_sequence(); end > 0; end -= kBatch) {
    const int64_t begin = std::max<int64_t>(1, end - kBatch + 1);
    absl::StatusOr<EventLog::Batch> batch = log.Read(begin, static_cast<int>(end - begin + 1));
    if (!batch.ok()) return batch.status();
    for (auto event = batch->events.rbegin(); event != batch->events.rend(); ++event) {
      if (event->has_state()) return std::move(*event);
    }
  }
  return v1::Event();
}

}  // namespace

absl::StatusOr<std::shared_ptr<EventLog>> RunLogs::Open(const v1::Job& job) {
  if (const auto known = open_.find(job.id()); known != open_.end()) {
    if (std::shared_ptr<EventLog> log = known->second.lock()) return log;
  }
  std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });

  const std::string directory = absl::StrCat(directory_, "/", job.id());
  if (absl::Status status = CreateDirectory(directory); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<EventLog>> opened =
      EventLog::Open(absl::StrCat(directory, "/events.log"));
  if (!opened.ok()) return opened.status();
  std::shared_ptr<EventLog> log = *std::move(opened);

  absl::StatusOr<v1::Event> last = LastStateEvent(*log);
  if (!last.ok()) return last.status();
  if (last->state().state() != job.state() || last->attempt() != job.attempt()) {
    v1::Event missing = StateEvent(job);
    if (absl::Status status = log->Append({&missing, 1}); !status.ok()) return status;
  }
  if (HasEnded(job.state())) {
    if (absl::Status status = log->Close(); !status.ok()) return status;
  }
  open_[job.id()] = log;
  return log;
}

}  // namespace lockstep
