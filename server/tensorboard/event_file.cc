#include "server/tensorboard/event_file.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/tensorboard/event_record.h"
#include "server/tensorboard/projection.h"

namespace lockstep {
namespace {

constexpr int kBatch = 64;  // events
constexpr char kPrefix[] = "events.out.tfevents.";
constexpr char kSuffix[] = ".lockstep";

std::string Records(const std::vector<tb::Event>& events) {
  std::string records;
  for (const tb::Event& event : events) AppendRecord(event, &records);
  return records;
}

}  // namespace

EventFile::EventFile(const std::string& run_directory, const v1::Job& job, int64_t least_free_bytes)
    : path_(absl::StrCat(run_directory, "/", kPrefix, job.create_time().seconds(), kSuffix)),
      least_free_bytes_(least_free_bytes),
      beginning_(Records(ProjectJob(job))) {}

absl::Status EventFile::CheckRoom() const {
  std::error_code error;
  const auto free = std::filesystem::space(path_, error).available;
  if (error || free >= static_cast<uintmax_t>(least_free_bytes_)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("cannot go on with ", path_, ": ", free >> 20,
                                                   " MiB of the disk are free, and the last ",
                                                   least_free_bytes_ >> 20, " are not for it"));
}

absl::Status EventFile::Put(const File& file, std::string_view bytes, int64_t* size) {
  const int64_t there = std::clamp<int64_t>(*size - offset_, 0, static_cast<int64_t>(bytes.size()));
  if (there > 0) {
    absl::StatusOr<std::string> old = file.ReadAt(offset_, there);
    if (!old.ok()) return old.status();
    if (*old != bytes.substr(0, there)) {
      if (absl::Status s = file.Truncate(offset_); !s.ok()) return s;
      *size = offset_;
      return Put(file, bytes, size);
    }
  }
  const int64_t end = offset_ + static_cast<int64_t>(bytes.size());
  if (end > *size) {
    if (absl::Status s = CheckRoom(); !s.ok()) return s;
    if (absl::Status s = file.WriteAt(offset_ + there, bytes.substr(there)); !s.ok()) return s;
    *size = end;
  }
  offset_ = end;
  return absl::OkStatus();
}

absl::StatusOr<bool> EventFile::Update(const EventLog& log) {
  absl::StatusOr<File> file = File::Open(path_, O_RDWR | O_CREAT);
  if (!file.ok()) return file.status();
  absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok()) return size.status();
  if (*size < offset_ || offset_ == 0) {  // somebody has removed it, or this is the first time
    offset_ = 0;
    next_sequence_ = 1;
    if (absl::Status s = Put(*file, beginning_, &*size); !s.ok()) return s;
  }
  while (true) {
    absl::StatusOr<EventLog::Batch> batch = log.Read(next_sequence_, kBatch);
    if (!batch.ok()) return batch.status();
    std::string records;
    for (const v1::Event& event : batch->events) records += Records(ProjectEvent(event));
    if (absl::Status s = Put(*file, records, &*size); !s.ok()) return s;
    next_sequence_ += static_cast<int64_t>(batch->events.size());
    if (batch->end || batch->events.empty()) {
      if (*size > offset_) {  // nothing beyond the log is right
        if (absl::Status s = file->Truncate(offset_); !s.ok()) return s;
      }
      return batch->end;
    }
  }
}

bool HasCompleteEventFile(const std::string& run_directory) {
  // The end of a job has records that are as long for every job.
  v1::Event end;
  end.mutable_state()->set_state(v1::SUCCEEDED);
  end.mutable_time()->set_seconds(1);
  const tb::Event wanted = ProjectEvent(end).back();
  std::string record;
  AppendRecord(wanted, &record);
  const int64_t length = static_cast<int64_t>(record.size());

  std::error_code error;
  std::filesystem::directory_iterator entry(run_directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!absl::StartsWith(name, kPrefix) || !absl::EndsWith(name, kSuffix)) continue;
    absl::StatusOr<File> file = File::Open(entry->path(), O_RDONLY);
    if (!file.ok()) return false;
    absl::StatusOr<int64_t> size = file->Size();
    if (!size.ok() || *size < length) return false;
    absl::StatusOr<std::string> tail = file->ReadAt(*size - length, length);
    // The event's own bytes lie between the length with its checksum and their checksum.
    tb::Event last;
    if (!tail.ok() || !last.ParseFromArray(tail->data() + 12, static_cast<int>(length) - 16)) {
      return false;
    }
    record.clear();
    AppendRecord(last, &record);
    return record == *tail && last.summary().value_size() == 1 &&
           last.summary().value(0).tag() == wanted.summary().value(0).tag();
  }
  return false;
}

}  // namespace lockstep
