#include "server/jobs/run_logs.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/jobs/job_events.h"
#include "server/jobs/job_state.h"

namespace lockstep {
absl::StatusOr<std::shared_ptr<EventLog>> RunLogs::Open(const v1::Job& job) {
  std::shared_ptr<EventLog> log;
  if (const auto known = open_.find(job.id()); known != open_.end()) log = known->second.lock();
  if (log == nullptr) {
    std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
    absl::StatusOr<std::unique_ptr<EventLog>> opened =
        EventLog::Open(absl::StrCat(directory_, "/", job.id(), "/events.log"), metrics_);
    if (!opened.ok()) return opened.status();
    log = *std::move(opened);
    open_[job.id()] = log;
  }
  const v1::Event last = log->last_state();
  if (last.state().state() != job.state() || last.attempt() != job.attempt()) {
    v1::Event missing = StateEvent(job);
    if (absl::Status status = log->Append({&missing, 1}); !status.ok()) return status;
  }
  if (HasEnded(job.state())) {
    if (absl::Status status = log->Close(); !status.ok()) return status;
  }
  return log;
}

absl::Status RunLogs::Delete(const std::string& id) {
  open_.erase(id);
  const std::string directory = absl::StrCat(directory_, "/", id);
  // Under a name that no job can have, so that nobody adds a file to it meanwhile.
  const std::string doomed = absl::StrCat(directory_, "/.", id);
  std::error_code error;
  std::filesystem::remove_all(doomed, error);  // a crash may have left it
  if (!error && std::filesystem::exists(directory, error)) {
    std::filesystem::rename(directory, doomed, error);
    if (!error) std::filesystem::remove_all(doomed, error);
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove ", directory));
}

void RestoreProgress(const EventLog& log, v1::Job& job) {
  // No step record is further from the end than what happens to a job between two of them.
  constexpr int kNewest = 256;
  const int64_t first = std::max<int64_t>(1, log.last_sequence() - kNewest + 1);
  absl::StatusOr<EventLog::Batch> batch = log.Read(first, kNewest);
  if (!batch.ok()) return;  // it is for people to look at
  for (const v1::Event& event : batch->events) UpdateProgress(event, job);
}

}  // namespace lockstep
