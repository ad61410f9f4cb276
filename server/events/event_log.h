#ifndef LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_
#define LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// The append-only log of one job: one file of records {length, CRC-32C, Event}, sequence numbers
// from 1 without holes. Any number of readers, each at its own place, cost the writer nothing.
// Thread-safe.
class EventLog {
 public:
  // Reads what is there; a torn record at the end (a crash while writing) is cut off.
  static absl::StatusOr<std::unique_ptr<EventLog>> Open(const std::string& path);
  virtual ~EventLog() = default;

  // Gives the events their sequence numbers and time, writes and fsyncs them, then wakes the
  // watchers. Step and epoch records that are in the log already (an earlier attempt wrote them) are
  // compared, all but timing, and dropped; a difference is DATA_LOSS and names the step.
  virtual absl::Status Append(std::span<v1::Event> events) = 0;
  // Nothing more will come: watchers that have read everything are told so.
  virtual absl::Status Close() = 0;

  virtual int64_t last_sequence() const = 0;

  // Waits for events from `sequence` on. As soon as there are any, or the log is closed, calls
  // `ready` once, from another thread or this one; it must not block. Returns a ticket.
  virtual int64_t NotifyFrom(int64_t sequence, std::function<void()> ready) = 0;
  // After it returns, `ready` of that ticket will not be called any more.
  virtual void CancelNotify(int64_t ticket) = 0;

  struct Batch {
    std::vector<v1::Event> events;
    bool end = false;  // the log is closed and these are the last
  };
  // Up to `limit` events from `sequence` on; reads the file, keeps nothing.
  virtual absl::StatusOr<Batch> Read(int64_t sequence, int limit) const = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_EVENTS_EVENT_LOG_H_
