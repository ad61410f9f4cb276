#ifndef LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILE_H_
#define LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "server/events/event_log.h"
#include "server/store/files.h"

namespace lockstep {

// The file of a job that TensorBoard reads, kept equal to what ProjectJob and ProjectEvent make of
// the job and its log. What is in the file is compared, not trusted: the first Update goes through
// the log from its beginning, completes a record that a crash tore, and writes anew from the first
// byte on that is another (made by another version of this program, or lost with the machine's
// power: nothing is ever synced). Later ones go on where the last one came to. Not thread-safe.
class EventFile {
 public:
  // Below the job's run directory, which has to be there. It takes none of a disk's last
  // `least_free_bytes`.
  EventFile(const std::string& run_directory, const v1::Job& job, int64_t least_free_bytes = 0);

  // Writes what the log has beyond the last call's, a bounded part of it in memory at a time. True:
  // the log is closed, and the file complete. After an error, which may be half a record later,
  // the next call makes it good. NOT_FOUND: the run directory is gone. RESOURCE_EXHAUSTED: the
  // disk is full, or nearly so.
  absl::StatusOr<bool> Update(const EventLog& log);

  int64_t next_sequence() const { return next_sequence_; }
  const std::string& path() const { return path_; }

 private:
  absl::Status CheckRoom() const;
  // Puts `bytes` at offset_ and moves it on; `size` is the file's.
  absl::Status Put(const File& file, std::string_view bytes, int64_t* size);

  const std::string path_;
  const int64_t least_free_bytes_;
  const std::string beginning_;  // of the file, before the log's first event
  int64_t next_sequence_ = 1;
  int64_t offset_ = 0;  // where it goes; all before is right
};

// Whether the run directory has an event file that Update has completed.
bool HasCompleteEventFile(const std::string& run_directory);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILE_H_
