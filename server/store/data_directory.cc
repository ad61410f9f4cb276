#include "server/store/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {

absl::StatusOr<DataDirectory> DataDirectory::Open(const std::string& path) {
  if (absl::Status created = CreateDirectory(path); !created.ok()) return created;
  std::error_code error;
  const std::string absolute = std::filesystem::canonical(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot find ", path));
  absl::StatusOr<File> lock = File::Open(absolute + "/lock", O_RDWR | O_CREAT);
  if (!lock.ok()) return lock.status();
  if (flock(lock->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(absl::StrCat(
          absolute, " is in use by another server; stop it or choose another --data-dir"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", absolute));
  }
  DataDirectory directory(absolute, *std::move(lock));
  for (const std::string& part : {directory.blobs(), directory.runs(), directory.cache()}) {
    if (absl::Status created = CreateDirectory(part); !created.ok()) return created;
  }
  return directory;
}

}  // namespace lockstep
