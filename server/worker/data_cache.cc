#include "server/worker/data_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "server/store/files.h"

namespace lockstep {
namespace {

absl::StatusOr<MappedFile> MapChecked(const std::string& path, const v1::Blob& blob) {
  absl::StatusOr<MappedFile> file = MappedFile::Map(path);
  if (!file.ok()) return file;
  if (static_cast<int64_t>(file->bytes().size()) != blob.size_bytes() ||
      Sha256(file->bytes()) != blob.sha256()) {
    return absl::DataLossError(absl::StrCat(path, " does not hold what its name says"));
  }
  return file;
}

// Opens or creates a file and locks it. Whoever had the lock before may have renamed or removed the
// file, and the lock with it: then there is a new one to lock.
absl::StatusOr<File> OpenLocked(const std::string& path) {
  for (;;) {
    absl::StatusOr<File> file = File::Open(path, O_RDWR | O_CREAT);
    if (!file.ok()) return file;
    while (flock(file->fd(), LOCK_EX) != 0) {
      if (errno != EINTR) return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    }
    struct stat opened, named;
    if (fstat(file->fd(), &opened) == 0 && stat(path.c_str(), &named) == 0 &&
        opened.st_dev == named.st_dev && opened.st_ino == named.st_ino) {
      return file;
    }
  }
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Map(const std::string& path) {
  absl::StatusOr<File> file = File::Open(path, O_RDONLY);
  if (!file.ok()) return file.status();
  absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok()) return size.status();
  if (*size == 0) return MappedFile(nullptr, 0);
  void* address = mmap(nullptr, static_cast<size_t>(*size), PROT_READ, MAP_PRIVATE, file->fd(), 0);
  if (address == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path));
  }
  return MappedFile(address, static_cast<size_t>(*size));
}

MappedFile::~MappedFile() {
  if (address_ != nullptr) munmap(address_, size_);
}

absl::StatusOr<DataCache> DataCache::Open(std::string directory) {
  if (absl::Status status = CreateDirectory(directory); !status.ok()) return status;
  return DataCache(std::move(directory));
}

absl::StatusOr<MappedFile> DataCache::Get(const v1::Blob& blob, Fetch fetch) const {
  const std::string path = absl::StrCat(directory_, "/", blob.sha256());
  if (absl::StatusOr<MappedFile> file = MapChecked(path, blob); file.ok()) return file;

  const std::string part_path = absl::StrCat(path, ".part");
  absl::StatusOr<File> part = OpenLocked(part_path);
  if (!part.ok()) return part.status();
  // Another worker may have fetched it while this one waited for the lock.
  if (absl::StatusOr<MappedFile> file = MapChecked(path, blob); file.ok()) {
    if (absl::Status status = RemoveFile(part_path); !status.ok()) return status;
    return file;
  }

  absl::StatusOr<int64_t> size = part->Size();
  if (!size.ok()) return size.status();
  int64_t offset = *size;
  absl::Status fetched = fetch(blob.sha256(), offset, [&](std::string_view data) {
    absl::Status written = part->WriteAt(offset, data);
    offset += static_cast<int64_t>(data.size());
    return written;
  });
  if (!fetched.ok()) return fetched;
  if (absl::Status status = part->Sync(); !status.ok()) return status;
  absl::StatusOr<MappedFile> file = MapChecked(part_path, blob);
  if (!file.ok()) {
    if (absl::Status status = part->Truncate(0); !status.ok()) return status;
    return file.status();
  }
  if (absl::Status status = RenameDurably(part_path, path); !status.ok()) return status;
  return file;
}

}  // namespace lockstep
