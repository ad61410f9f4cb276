#include "client/cli/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace lockstep {

NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(part().c_str());
}

absl::Status NewFile::Open() {
  // Renaming over a device or pipe would replace it.
  struct stat existing;
  if (stat(path_.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
    return absl::FailedPreconditionError(
        fmt::format("cannot write {}: it is not a regular file", path_));
  }
  descriptor_ = open(part().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  return descriptor_ < 0 ? Error() : absl::OkStatus();
}

absl::Status NewFile::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error();
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status NewFile::Commit() {
  if (fsync(descriptor_) != 0 || rename(part().c_str(), path_.c_str()) != 0) return Error();
  close(descriptor_);
  descriptor_ = -1;
  return absl::OkStatus();
}

absl::Status NewFile::Error() const {
  return absl::FailedPreconditionError(
      fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
}

}  // namespace lockstep
