#include "server/worker/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {

Spool::~Spool() {
  if (file_ >= 0) close(file_);
}

absl::Status Spool::Append(const std::string& message) {
  const int64_t size = static_cast<int64_t>(message.size());
  if (memory_bytes_ + size <= memory_limit_) {
    memory_.emplace(last() + 1, message);
    memory_bytes_ += size;
    entries_.push_back({-1, size});
    return absl::OkStatus();
  }
  if (file_ < 0) {
    file_ = open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file_ < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot create a file in ", directory_));
    }
  }
  for (int64_t done = 0; done < size;) {
    const ssize_t n = pwrite(file_, message.data() + done, size - done, file_end_ + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write in ", directory_));
    done += n;
  }
  entries_.push_back({file_end_, size});
  file_end_ += size;
  ++in_file_;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Spool::Read(int64_t number) const {
  const Entry& entry = entries_[number - first_];
  if (entry.offset < 0) return memory_.at(number);
  std::string message(entry.size, '\0');
  for (int64_t done = 0; done < entry.size;) {
    const ssize_t n = pread(file_, message.data() + done, entry.size - done, entry.offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read in ", directory_));
    if (n == 0) return absl::DataLossError("the spool's file is shorter than it was");
    done += n;
  }
  return message;
}

void Spool::DropTo(int64_t number) {
  while (first_ <= number && !entries_.empty()) {
    if (entries_.front().offset < 0) {
      memory_bytes_ -= entries_.front().size;
      memory_.erase(first_);
    } else {
      --in_file_;
    }
    entries_.pop_front();
    ++first_;
  }
  if (in_file_ == 0 && file_end_ > 0) {
    // Should it stay as long as it is, its bytes are written over.
    (void)!ftruncate(file_, 0);
    file_end_ = 0;
  }
}

void Spool::Clear() {
  DropTo(last());
  first_ = 1;
}

}  // namespace lockstep
