#ifndef LOCKSTEP_SERVER_STORE_FILES_H_
#define LOCKSTEP_SERVER_STORE_FILES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The few file operations that durable storage needs. Errors carry the path, what was tried and
// errno's text: a missing file is NOT_FOUND; a full disk, a quota or a limit on a file's size
// RESOURCE_EXHAUSTED; an I/O error or a read-only file system UNAVAILABLE; a directory that must
// not be written to PERMISSION_DENIED.
namespace lockstep {

// Whether a status of these operations, of the store or of an event log is the storage's trouble
// and not the caller's: full, over quota, read-only, an I/O error. The same call may succeed later,
// once there is room or somebody has seen to it.
bool IsStorageFailure(const absl::Status& status);

// Owns a descriptor.
class File {
 public:
  File() = default;
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept;
  ~File();

  // `flags` and `mode` as open(2) takes them; O_CLOEXEC is added.
  static absl::StatusOr<File> Open(const std::string& path, int flags, mode_t mode = 0600);

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

  absl::StatusOr<int64_t> Size() const;
  // All of `data`, at `offset`.
  absl::Status WriteAt(int64_t offset, std::string_view data) const;
  // Up to `length` bytes; fewer only at the end of the file.
  absl::StatusOr<std::string> ReadAt(int64_t offset, int64_t length) const;
  absl::Status Truncate(int64_t size) const;
  absl::Status Sync() const;
  // What close(2) says, which may be the first to hear of a failed write. The file is closed either
  // way. The destructor closes without asking.
  absl::Status Close();

 private:
  int fd_ = -1;
  std::string path_;
};

absl::Status CreateDirectory(const std::string& path);  // and its parents; fine if it is there
absl::Status SyncDirectory(const std::string& path);
// Durable when it returns: the directory is synced too. Absolute paths in one directory.
absl::Status RenameDurably(const std::string& from, const std::string& to);
// Readers see the old contents or the new, never a part. An absolute path.
absl::Status WriteFileAtomically(const std::string& path, std::string_view contents, mode_t mode);
// OK when there is no such file.
absl::Status RemoveFile(const std::string& path);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_FILES_H_
