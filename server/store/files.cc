#include "server/store/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep {
namespace {

absl::Status ToStatus(int error, absl::string_view what, const std::string& path) {
  const absl::Status status = absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path));
  switch (error) {
    case EIO:
    case EROFS:
      return absl::UnavailableError(status.message());
    case EDQUOT:
    case EFBIG:
    case ENOSPC:
      return absl::ResourceExhaustedError(status.message());
    default:
      return status;
  }
}

absl::Status LastError(absl::string_view what, const std::string& path) {
  return ToStatus(errno, what, path);
}

}  // namespace

bool IsStorageFailure(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status) ||
         absl::IsPermissionDenied(status);
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<File> File::Open(const std::string& path, int flags, mode_t mode) {
  File file;
  file.fd_ = open(path.c_str(), flags | O_CLOEXEC, mode);
  if (file.fd_ < 0) return LastError("open", path);
  file.path_ = path;
  return file;
}

absl::StatusOr<int64_t> File::Size() const {
  struct stat status;
  if (fstat(fd_, &status) != 0) return LastError("read the size of", path_);
  return status.st_size;
}

absl::Status File::WriteAt(int64_t offset, std::string_view data) const {
  while (!data.empty()) {
    const ssize_t written = pwrite(fd_, data.data(), data.size(), offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      return LastError("write", path_);
    }
    data.remove_prefix(written);
    offset += written;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> File::ReadAt(int64_t offset, int64_t length) const {
  // Never more memory than there is file.
  absl::StatusOr<int64_t> size = Size();
  if (!size.ok()) return size.status();
  std::string data(std::clamp<int64_t>(*size - offset, 0, length), '\0');
  size_t filled = 0;
  while (filled < data.size()) {
    const ssize_t got = pread(fd_, data.data() + filled, data.size() - filled, offset + filled);
    if (got < 0) {
      if (errno == EINTR) continue;
      return LastError("read", path_);
    }
    if (got == 0) break;
    filled += got;
  }
  data.resize(filled);
  return data;
}

absl::Status File::Truncate(int64_t size) const {
  if (ftruncate(fd_, size) != 0) return LastError("truncate", path_);
  return absl::OkStatus();
}

absl::Status File::Sync() const {
  if (fdatasync(fd_) != 0) return LastError("sync", path_);
  return absl::OkStatus();
}

absl::Status File::Close() {
  if (close(std::exchange(fd_, -1)) != 0) return LastError("close", path_);
  return absl::OkStatus();
}

absl::Status CreateDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ToStatus(error.value(), "create directory", path);
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  absl::StatusOr<File> directory = File::Open(path, O_RDONLY | O_DIRECTORY);
  if (!directory.ok()) return directory.status();
  if (fsync(directory->fd()) != 0) return LastError("sync", path);
  return absl::OkStatus();
}

absl::Status RenameDurably(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return LastError("rename to", to);
  return SyncDirectory(std::filesystem::path(to).parent_path());
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view contents, mode_t mode) {
  const std::string temporary = path + ".tmp";
  absl::StatusOr<File> file = File::Open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (!file.ok()) return file.status();
  absl::Status status = file->WriteAt(0, contents);
  if (status.ok()) status = file->Sync();
  status.Update(file->Close());
  if (status.ok()) return RenameDurably(temporary, path);
  RemoveFile(temporary).IgnoreError();  // a full disk needs its room
  return status;
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return LastError("remove", path);
  return absl::OkStatus();
}

}  // namespace lockstep
