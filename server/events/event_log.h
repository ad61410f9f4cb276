#ifndef LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_
#define LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/event.pb.h"
#include "server/store/files.h"

namespace lockstep {

// The append-only log of one job: one file of records {length, CRC-32C, Event}, both numbers 32
// bits little-endian, the CRC over the event's bytes; sequence numbers from 1 without holes. Any
// number of readers, each at its own place, cost the writer nothing. One EventLog a file at a time.
// Thread-safe.
class EventLog {
 public:
  // Reads what is there, or starts a new file; from the first damaged record on (a crash while
  // writing tears the end) the file is cut off.
  static absl::StatusOr<std::unique_ptr<EventLog>> Open(const std::string& path);

  // Gives the events their sequence numbers and time, writes and fsyncs them all at once, then
  // wakes the watchers.
  //
  // What a run says again is dropped, its sequence left 0, whether an earlier attempt said it or
  // the same one: step and epoch records, reports of BatchNorms and weights and texts of a step
  // after they have been compared, all but timing; a profile if its attempt has one. A difference,
  // also one that the run before had nothing of though it came further, is DATA_LOSS and names the
  // step.
  //
  // On an error nothing has been appended, and the same events may be appended again: after a
  // failed write (see IsStorageFailure) that makes the end of the file good first. INVALID_ARGUMENT
  // for an event beyond 1 MiB, FAILED_PRECONDITION once closed.
  absl::Status Append(std::span<v1::Event> events);
  // Nothing more will come: watchers that have read everything are told so.
  absl::Status Close();

  int64_t last_sequence() const;
  // The newest state event; without one an event without a state.
  v1::Event last_state() const;
  // The newest `count` epoch records, oldest first; 0: all.
  absl::StatusOr<std::vector<v1::EpochRecord>> Epochs(int64_t count) const;

  // The sequence number of the first step record of this step or a later one; if there is none, of
  // the event that comes next.
  int64_t FindStep(int64_t step) const;

  // Waits for events from `sequence` on. As soon as there are any, or the log is closed, calls
  // `ready` once, from another thread or this one; it must not block. Returns a ticket.
  int64_t NotifyFrom(int64_t sequence, std::function<void()> ready);
  // After it returns, `ready` of that ticket will not be called any more and is not running; so it
  // must not be called from within `ready`.
  void CancelNotify(int64_t ticket);

  struct Batch {
    std::vector<v1::Event> events;
    bool end = false;  // the log is closed and these are the last
  };
  // Up to `limit` events from `sequence` (>= 1) on; reads the file, keeps nothing.
  absl::StatusOr<Batch> Read(int64_t sequence, int limit) const;

 private:
  // The kinds of events that a run says again, each found by a number of its own: its step, epoch
  // or, for a profile, attempt.
  enum Kind { kStep, kEpoch, kBatchNorm, kWeights, kText, kProfile, kKinds };
  struct Key {
    Kind kind;
    int64_t number;
  };
  struct Place {
    int64_t number;
    int64_t sequence;
  };
  struct Watcher {
    int64_t sequence;
    std::function<void()> ready;
  };

  explicit EventLog(File file) : file_(std::move(file)) {}

  absl::Status Load();
  // Nothing for events that are never dropped.
  static std::optional<Key> KeyOf(const v1::Event& event);
  void Index(const v1::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  // Undoes Index for all events after `sequence`.
  void ForgetAfter(int64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  // `fresh` are the events that will follow the last one of the file.
  absl::StatusOr<bool> IsReplay(const v1::Event& event, std::span<const v1::Event* const> fresh)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  // Writes all but the replays after the event `sequence`, which ends at `offset`; adds to `ends`
  // where each of them ends.
  absl::Status WriteFresh(std::span<v1::Event> events, int64_t sequence, int64_t offset,
                          std::vector<int64_t>* ends) ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  absl::Status WriteDurably(int64_t offset, const std::string& records)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mutex_);
  bool IsDue(const Watcher& watcher) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeWatchers() ABSL_LOCKS_EXCLUDED(mutex_);

  const File file_;

  // Held by the writer while it waits for the disk, which readers and watchers must not.
  mutable absl::Mutex append_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  // By kind; ascending in both numbers, but for profiles, of which there are few.
  std::array<std::vector<Place>, kKinds> places_ ABSL_GUARDED_BY(append_mutex_);
  v1::Event last_state_ ABSL_GUARDED_BY(append_mutex_);  // of those on disk
  // A write or sync failed: what lies beyond the last event that is indexed is unknown.
  bool end_unknown_ ABSL_GUARDED_BY(append_mutex_) = false;

  mutable absl::Mutex mutex_;
  // ends_[s] is where the record of sequence s ends and the next begins; ends_[0] is 0.
  std::vector<int64_t> ends_ ABSL_GUARDED_BY(mutex_) = {0};
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int64_t, Watcher> watchers_ ABSL_GUARDED_BY(mutex_);  // by ticket
  absl::flat_hash_set<int64_t> waking_ ABSL_GUARDED_BY(mutex_);  // tickets being called
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_
