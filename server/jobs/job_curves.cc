#include "server/jobs/job_curves.h"

#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jobs/job_state.h"
#include "server/store/files.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr int kBatch = 1024;  // events read at a time

// Nothing when there is no such file, no whole one, or one of another job.
std::optional<Curves> LoadCurves(const std::string& path,
                                 const google::protobuf::Timestamp& create_time) {
  absl::StatusOr<File> file = File::Open(path, O_RDONLY);
  if (!file.ok()) return std::nullopt;
  absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok()) return std::nullopt;
  absl::StatusOr<std::string> bytes = file->ReadAt(0, *size);
  v1::Curves saved;
  if (!bytes.ok() || !saved.ParseFromString(*bytes)) return std::nullopt;
  if (!MessageDifferencer::Equals(saved.create_time(), create_time)) return std::nullopt;
  return Curves::Load(saved);
}

}  // namespace

std::string JobCurves::FileOf(const std::string& id) const {
  return std::filesystem::absolute(absl::StrCat(runs_directory_, "/", id, "/curves.pb"));
}

std::shared_ptr<JobCurves::Entry> JobCurves::EntryOf(const v1::Job& job) {
  absl::MutexLock lock(&mu_);
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return entry->id == job.id(); });
  if (known != entries_.end()) {
    if (MessageDifferencer::Equals((*known)->create_time, job.create_time())) {
      entries_.splice(entries_.begin(), entries_, known);
      return entries_.front();
    }
    entries_.erase(known);
  }
  if (entries_.size() == kJobsInMemory) entries_.pop_back();
  return entries_.emplace_front(std::make_shared<Entry>(job));
}

absl::Status JobCurves::OpenLog(Entry& entry) {
  if (entry.log != nullptr) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<EventLog>> log = jobs_->Log(entry.id);
  if (!log.ok()) return log.status();
  entry.log = *std::move(log);
  return absl::OkStatus();
}

absl::Status JobCurves::Follow(Entry& entry, bool ended) {
  if (entry.whole) return absl::OkStatus();
  if (ended && entry.curves.last_sequence() == 0) {
    if (std::optional<Curves> saved = LoadCurves(FileOf(entry.id), entry.create_time)) {
      entry.curves = *std::move(saved);
      entry.whole = true;
      return absl::OkStatus();
    }
  }
  if (absl::Status opened = OpenLog(entry); !opened.ok()) return opened;
  for (;;) {
    absl::StatusOr<EventLog::Batch> batch =
        entry.log->Read(entry.curves.last_sequence() + 1, kBatch);
    if (!batch.ok()) return batch.status();
    for (const v1::Event& event : batch->events) entry.curves.Add(event);
    if (!batch->end && !batch->events.empty()) continue;
    entry.whole = batch->end;
    break;
  }
  if (!entry.whole) return absl::OkStatus();
  v1::Curves saved = entry.curves.Save();
  *saved.mutable_create_time() = entry.create_time;
  const absl::Status kept =
      WriteFileAtomically(FileOf(entry.id), saved.SerializeAsString(), /*mode=*/0600);
  if (!kept.ok()) {
    LogLine(LogLevel::kWarning, "cannot keep curves",
            {{"job", entry.id}, {"trace_id", entry.trace_id}, {"status", kept}});
  }
  return absl::OkStatus();
}

absl::StatusOr<Curves> JobCurves::Detail(const EventLog& log, int64_t first, int64_t last) const {
  Curves curves;
  while (first <= last) {
    absl::StatusOr<EventLog::Batch> batch =
        log.Read(first, static_cast<int>(std::min<int64_t>(last - first + 1, kBatch)));
    if (!batch.ok()) return batch.status();
    if (batch->events.empty()) break;
    for (const v1::Event& event : batch->events) curves.Add(event);
    first = batch->events.back().sequence() + 1;
  }
  return curves;
}

absl::StatusOr<JobCurves::Answer> JobCurves::Read(const std::string& id,
                                                  const Selection& selection) {
  absl::StatusOr<v1::Job> job = jobs_->Get(id);
  if (!job.ok()) return job.status();
  const std::shared_ptr<Entry> entry = EntryOf(*job);
  absl::MutexLock lock(&entry->mu);
  if (absl::Status status = Follow(*entry, HasEnded(job->state())); !status.ok()) return status;

  const Curves* curves = &entry->curves;
  absl::StatusOr<Curves> detail;
  const bool complete = std::all_of(curves->all().begin(), curves->all().end(),
                                    [](const auto& curve) { return curve.second.complete(); });
  const bool part =
      selection.first_step > 0 || selection.last_step < std::numeric_limits<int64_t>::max();
  if (part && !complete) {
    if (absl::Status status = OpenLog(*entry); !status.ok()) return status;
    const int64_t first = entry->log->FindStep(selection.first_step);
    const int64_t last =
        selection.last_step == std::numeric_limits<int64_t>::max()
            ? curves->last_sequence()
            : std::min(curves->last_sequence(), entry->log->FindStep(selection.last_step + 1) - 1);
    if (last - first < kDetailEvents) {
      detail = Detail(*entry->log, first, last);
      if (!detail.ok()) return detail.status();
      curves = &*detail;
    }
  }

  Answer answer;
  answer.last_sequence = entry->curves.last_sequence();
  for (const auto& [name, curve] : curves->all()) {
    if (!selection.names.empty() && !selection.names.contains(name)) continue;
    answer.series.push_back(
        {name, curve.Points(selection.points, selection.first_step, selection.last_step)});
  }
  return answer;
}

}  // namespace lockstep
