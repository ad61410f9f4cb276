#ifndef LOCKSTEP_CLIENT_LIB_EVENT_STREAM_H_
#define LOCKSTEP_CLIENT_LIB_EVENT_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

struct Connection;

// A job's events, each once and in order, until the job has ended. When the connection breaks it
// comes back by itself and goes on with the next sequence number.
class EventStream {
 public:
  EventStream(const Connection* connection, std::string job_id, int64_t from_sequence);
  ~EventStream();

  // Waits for the next event; nothing after the last one. CANCELLED after Cancel(); UNAVAILABLE
  // when the server stays away for longer than the retry policy allows. For one thread.
  absl::StatusOr<std::optional<v1::Event>> Next();

  // Ends Next(), now and for good. From any thread.
  void Cancel();

  // The sequence number to go on with.
  int64_t next_sequence() const { return next_sequence_; }

 private:
  struct Call;

  absl::Status Open() ABSL_LOCKS_EXCLUDED(mutex_);

  const Connection* const connection_;
  const std::string job_id_;
  int64_t next_sequence_;

  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Call> call_;  // replaced under the mutex, by the reading thread only
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_LIB_EVENT_STREAM_H_
