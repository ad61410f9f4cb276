#include "server/events/event_log.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/events/crc32c.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

constexpr int64_t kHeaderBytes = 8;
constexpr size_t kMaxRecordBytes = kHeaderBytes + (1 << 20);
// Of one read; a batch ends early rather than hold more. No record is longer.
constexpr int64_t kMaxReadBytes = 4 << 20;

void PutUint32(uint32_t value, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(value >> shift));
}

uint32_t GetUint32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

void AppendRecord(const v1::Event& event, std::string* out) {
  const std::string payload = event.SerializeAsString();
  PutUint32(static_cast<uint32_t>(payload.size()), out);
  PutUint32(Crc32c(payload), out);
  out->append(payload);
}

struct Record {
  v1::Event event;
  int64_t bytes;  // header included
};

// The record that `bytes` begin with; nothing when it is torn or damaged.
std::optional<Record> ParseRecord(std::string_view bytes) {
  if (static_cast<int64_t>(bytes.size()) < kHeaderBytes) return std::nullopt;
  const uint32_t length = GetUint32(bytes);
  const uint32_t crc = GetUint32(bytes.substr(4));
  // No event is empty: a tail of zeros, which a crash may leave, is not a record.
  if (length == 0 || length > bytes.size() - kHeaderBytes) return std::nullopt;
  const std::string_view payload = bytes.substr(kHeaderBytes, length);
  if (Crc32c(payload) != crc) return std::nullopt;
  Record record;
  if (!record.event.ParseFromArray(payload.data(), static_cast<int>(length))) return std::nullopt;
  record.bytes = kHeaderBytes + length;
  return record;
}

// The part of an event that every run of a job must repeat, as bytes: so that doubles are compared
// by their bits.
std::string Promised(const v1::Event& event) {
  if (event.has_step()) {
    v1::StepRecord step = event.step();
    step.clear_timing();
    return step.SerializeAsString();
  }
  if (event.has_epoch()) {
    v1::EpochRecord epoch = event.epoch();
    epoch.clear_timing();
    return epoch.SerializeAsString();
  }
  if (event.has_batch_norm()) return event.batch_norm().SerializeAsString();
  if (event.has_weights()) return event.weights().SerializeAsString();
  return event.text().SerializeAsString();
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLog>> EventLog::Open(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path();
  if (absl::Status s = CreateDirectory(directory); !s.ok()) return s;
  absl::StatusOr<File> file = File::Open(path, O_RDWR | O_CREAT);
  if (!file.ok()) return file.status();
  if (absl::Status s = SyncDirectory(directory); !s.ok()) return s;
  auto log = std::unique_ptr<EventLog>(new EventLog(*std::move(file)));
  if (absl::Status s = log->Load(); !s.ok()) return s;
  return log;
}

absl::Status EventLog::Load() {
  absl::MutexLock append_lock(&append_mutex_);
  absl::MutexLock lock(&mutex_);
  absl::StatusOr<int64_t> size = file_.Size();
  if (!size.ok()) return size.status();
  bool damaged = false;
  while (ends_.back() < *size && !damaged) {
    absl::StatusOr<std::string> window = file_.ReadAt(ends_.back(), kMaxReadBytes);
    if (!window.ok()) return window.status();
    std::string_view rest = *window;
    while (std::optional<Record> record = ParseRecord(rest)) {
      if (record->event.sequence() != static_cast<int64_t>(ends_.size())) break;
      Index(record->event);
      if (record->event.has_state()) last_state_ = record->event;
      ends_.push_back(ends_.back() + record->bytes);
      rest.remove_prefix(record->bytes);
    }
    damaged = rest.size() == window->size();  // a window holds at least one whole record
  }
  if (damaged) {
    LogLine(LogLevel::kWarning, "event log cut",
            {{"path", file_.path()},
             {"bytes_dropped", *size - ends_.back()},
             {"last_sequence", ends_.size() - 1}});
    if (absl::Status s = file_.Truncate(ends_.back()); !s.ok()) return s;
  }
  // A server that was killed may have written these records but not waited for the disk.
  return file_.Sync();
}

std::optional<EventLog::Key> EventLog::KeyOf(const v1::Event& event) {
  if (event.has_step()) return Key{kStep, event.step().step()};
  if (event.has_epoch()) return Key{kEpoch, event.epoch().epoch()};
  if (event.has_batch_norm()) return Key{kBatchNorm, event.batch_norm().epoch()};
  if (event.has_weights()) return Key{kWeights, event.weights().epoch()};
  if (event.has_text() && event.text().step() > 0) return Key{kText, event.text().step()};
  if (event.has_profile()) return Key{kProfile, event.attempt()};
  return std::nullopt;
}

void EventLog::Index(const v1::Event& event) {
  if (const std::optional<Key> key = KeyOf(event)) {
    places_[key->kind].push_back({key->number, event.sequence()});
  }
}

v1::Event EventLog::last_state() const {
  absl::MutexLock lock(&append_mutex_);
  return last_state_;
}

absl::StatusOr<std::vector<v1::EpochRecord>> EventLog::Epochs(int64_t count) const {
  absl::MutexLock lock(&append_mutex_);
  const std::span<const Place> all = places_[kEpoch];
  const size_t wanted = count == 0 ? all.size() : std::min(all.size(), static_cast<size_t>(count));
  std::vector<v1::EpochRecord> records;
  for (const Place& place : all.last(wanted)) {
    absl::StatusOr<Batch> batch = Read(place.sequence, 1);
    if (!batch.ok()) return batch.status();
    records.push_back(std::move(*batch->events[0].mutable_epoch()));
  }
  return records;
}

int64_t EventLog::FindStep(int64_t step) const {
  absl::MutexLock lock(&append_mutex_);
  const std::vector<Place>& steps = places_[kStep];
  const auto place = std::lower_bound(steps.begin(), steps.end(), step,
                                      [](const Place& p, int64_t s) { return p.number < s; });
  return place == steps.end() ? last_sequence() + 1 : place->sequence;
}

void EventLog::ForgetAfter(int64_t sequence) {
  for (std::vector<Place>& places : places_) {
    while (!places.empty() && places.back().sequence > sequence) places.pop_back();
  }
}

absl::StatusOr<bool> EventLog::IsReplay(const v1::Event& event,
                                        std::span<const v1::Event* const> fresh) {
  const std::optional<Key> key = KeyOf(event);
  if (!key.has_value()) return false;
  const std::vector<Place>& places = places_[key->kind];
  if (key->kind == kProfile) {
    return std::any_of(places.begin(), places.end(),
                       [&](const Place& place) { return place.number == key->number; });
  }

  const std::string what =
      key->kind == kStep        ? absl::StrCat("step ", key->number)
      : key->kind == kEpoch     ? absl::StrCat("epoch ", key->number)
      : key->kind == kBatchNorm ? absl::StrCat("the BatchNorm report of epoch ", key->number)
      : key->kind == kWeights   ? absl::StrCat("the weight report of epoch ", key->number)
                                : absl::StrCat("the text of step ", key->number);
  const std::string promised = Promised(event);
  const int64_t on_disk = last_sequence();
  auto place = std::lower_bound(places.begin(), places.end(), key->number,
                                [](const Place& p, int64_t number) { return p.number < number; });
  for (; place != places.end() && place->number == key->number; ++place) {
    std::string logged;
    if (place->sequence > on_disk) {
      logged = Promised(*fresh[place->sequence - on_disk - 1]);
    } else {
      absl::StatusOr<Batch> batch = Read(place->sequence, 1);
      if (!batch.ok()) return batch.status();
      logged = Promised(batch->events[0]);
    }
    if (logged == promised) return true;
    if (key->kind == kText) continue;  // a step may have several
    return absl::DataLossError(absl::StrCat(
        what, " differs from the run before: the same job must give the same bits; event ",
        place->sequence, " of the log has what was there"));
  }

  // The run before may have been torn off after any event, but then has nothing that comes later.
  int64_t reached = places.empty() ? key->number : places.back().number;
  if (key->kind == kText && !places_[kStep].empty()) {
    reached = std::max(reached, places_[kStep].back().number);
  }
  if (key->number < reached) {
    return absl::DataLossError(absl::StrCat("the run before did not log ", what));
  }
  return false;
}

absl::Status EventLog::WriteFresh(std::span<v1::Event> events, int64_t sequence, int64_t offset,
                                  std::vector<int64_t>* ends) {
  const absl::Time now = absl::Now();
  std::string records;
  std::vector<const v1::Event*> fresh;
  for (v1::Event& event : events) {
    absl::StatusOr<bool> replay = IsReplay(event, fresh);
    if (!replay.ok()) return replay.status();
    event.set_sequence(*replay ? 0 : ++sequence);
    if (*replay) continue;
    event.mutable_time()->set_seconds(absl::ToUnixSeconds(now));
    event.mutable_time()->set_nanos(static_cast<int>(
        (now - absl::FromUnixSeconds(event.time().seconds())) / absl::Nanoseconds(1)));
    const size_t begin = records.size();
    AppendRecord(event, &records);
    if (records.size() - begin > kMaxRecordBytes) {
      return absl::InvalidArgumentError(absl::StrCat("an event of ", records.size() - begin,
                                                     " bytes is more than ", kMaxRecordBytes));
    }
    Index(event);
    fresh.push_back(&event);
    ends->push_back(offset + static_cast<int64_t>(records.size()));
  }
  if (fresh.empty()) return absl::OkStatus();
  return WriteDurably(offset, records);
}

absl::Status EventLog::WriteDurably(int64_t offset, const std::string& records) {
  if (end_unknown_) {
    // Half a record would hide those after it; and what a failed sync left in the file may be in
    // memory only.
    if (absl::Status s = file_.Truncate(offset); !s.ok()) return s;
    if (absl::Status s = file_.Sync(); !s.ok()) return s;
    end_unknown_ = false;
  }
  absl::Status status = file_.WriteAt(offset, records);
  if (status.ok()) status = file_.Sync();
  if (status.ok()) return status;
  end_unknown_ = true;
  file_.Truncate(offset).IgnoreError();  // a full disk needs its room; the next Append makes sure
  return status;
}

absl::Status EventLog::Append(std::span<v1::Event> events) {
  {
    absl::MutexLock append_lock(&append_mutex_);
    int64_t sequence;
    int64_t offset;
    {
      absl::MutexLock lock(&mutex_);
      if (closed_) return absl::FailedPreconditionError("the event log is closed");
      sequence = static_cast<int64_t>(ends_.size()) - 1;
      offset = ends_.back();
    }
    std::vector<int64_t> ends;
    if (absl::Status s = WriteFresh(events, sequence, offset, &ends); !s.ok()) {
      ForgetAfter(sequence);
      for (v1::Event& event : events) event.clear_sequence();
      return s;
    }
    if (ends.empty()) return absl::OkStatus();
    for (const v1::Event& event : events) {
      if (event.has_state()) last_state_ = event;
    }
    absl::MutexLock lock(&mutex_);
    ends_.insert(ends_.end(), ends.begin(), ends.end());
  }
  WakeWatchers();
  return absl::OkStatus();
}

absl::Status EventLog::Close() {
  {
    absl::MutexLock append_lock(&append_mutex_);  // after what is being written
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  WakeWatchers();
  return absl::OkStatus();
}

int64_t EventLog::last_sequence() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(ends_.size()) - 1;
}

bool EventLog::IsDue(const Watcher& watcher) const {
  return closed_ || watcher.sequence < static_cast<int64_t>(ends_.size());
}

int64_t EventLog::NotifyFrom(int64_t sequence, std::function<void()> ready) {
  int64_t ticket;
  {
    absl::MutexLock lock(&mutex_);
    ticket = next_ticket_++;
    Watcher watcher{sequence, std::move(ready)};
    if (!IsDue(watcher)) {
      watchers_.emplace(ticket, std::move(watcher));
      return ticket;
    }
    ready = std::move(watcher.ready);
  }
  ready();
  return ticket;
}

void EventLog::CancelNotify(int64_t ticket) {
  absl::MutexLock lock(&mutex_);
  watchers_.erase(ticket);
  auto done = [this, ticket]()
                  ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !waking_.contains(ticket); };
  mutex_.Await(absl::Condition(&done));
}

void EventLog::WakeWatchers() {
  std::vector<std::pair<int64_t, std::function<void()>>> due;
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = watchers_.begin(); it != watchers_.end();) {
      if (IsDue(it->second)) {
        waking_.insert(it->first);
        due.emplace_back(it->first, std::move(it->second.ready));
        it = watchers_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (auto& [ticket, ready] : due) {
    ready();
    absl::MutexLock lock(&mutex_);
    waking_.erase(ticket);
  }
}

absl::StatusOr<EventLog::Batch> EventLog::Read(int64_t sequence, int limit) const {
  Batch batch;
  int64_t begin;
  int64_t end;
  {
    absl::MutexLock lock(&mutex_);
    const int64_t count = static_cast<int64_t>(ends_.size()) - 1;
    const int64_t first = std::max<int64_t>(sequence, 1) - 1;
    if (first >= count) {
      batch.end = closed_;
      return batch;
    }
    int64_t last = std::min(count, first + std::max(limit, 1));
    while (last > first + 1 && ends_[last] - ends_[first] > kMaxReadBytes) --last;
    begin = ends_[first];
    end = ends_[last];
    batch.end = closed_ && last == count;
  }
  absl::StatusOr<std::string> bytes = file_.ReadAt(begin, end - begin);
  if (!bytes.ok()) return bytes.status();
  std::string_view rest = *bytes;
  while (begin < end) {
    std::optional<Record> record = ParseRecord(rest);
    if (!record.has_value()) {
      return absl::DataLossError(absl::StrCat(file_.path(), " is damaged at byte ", begin));
    }
    rest.remove_prefix(record->bytes);
    begin += record->bytes;
    batch.events.push_back(std::move(record->event));
  }
  return batch;
}

}  // namespace lockstep
