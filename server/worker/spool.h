#ifndef LOCKSTEP_SERVER_WORKER_SPOOL_H_
#define LOCKSTEP_SERVER_WORKER_SPOOL_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// Messages numbered from 1, kept until they are dropped: the first `memory_bytes` of them in
// memory, what does not fit there in a file without a name. Beside them it costs 16 bytes a
// message. Not thread-safe.
class Spool {
 public:
  // The file comes into being in `directory` when it is needed.
  Spool(std::string directory, int64_t memory_bytes)
      : directory_(std::move(directory)), memory_limit_(memory_bytes) {}
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Keeps `message` under the number last() + 1. An error, the file's, leaves all as it was.
  absl::Status Append(const std::string& message);
  // The message of a number from first() to last().
  absl::StatusOr<std::string> Read(int64_t number) const;
  // Forgets all messages up to this number.
  void DropTo(int64_t number);
  // Forgets all of them; the next has number 1.
  void Clear();

  int64_t first() const { return first_; }
  int64_t last() const { return first_ + static_cast<int64_t>(entries_.size()) - 1; }
  int64_t bytes_in_memory() const { return memory_bytes_; }

 private:
  struct Entry {
    int64_t offset;  // in the file; -1: in memory
    int64_t size;
  };

  const std::string directory_;
  const int64_t memory_limit_;
  int64_t first_ = 1;
  std::deque<Entry> entries_;
  std::map<int64_t, std::string> memory_;  // by number
  int64_t memory_bytes_ = 0;
  int file_ = -1;
  int64_t file_end_ = 0;
  int64_t in_file_ = 0;  // messages
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_SPOOL_H_
