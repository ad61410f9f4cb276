#ifndef LOCKSTEP_SERVER_WORKER_DATA_CACHE_H_
#define LOCKSTEP_SERVER_WORKER_DATA_CACHE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/blob.pb.h"

namespace lockstep {

// A file's bytes, mapped read-only for as long as this lives.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Map(const std::string& path);
  MappedFile(MappedFile&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  MappedFile(void* address, size_t size) : address_(address), size_(size) {}

  void* address_;
  size_t size_;
};

// Copies of blobs below one directory, which several workers may share: a file named by its digest
// is whole and was right when it came; <digest>.part is on its way, under a file lock, and goes on
// where it stopped.
class DataCache {
 public:
  // Appends to the copy by calling sink(bytes), from `offset` on.
  using Sink = absl::FunctionRef<absl::Status(std::string_view)>;
  using Fetch = absl::FunctionRef<absl::Status(const std::string& sha256, int64_t offset, Sink)>;

  // Creates the directory if need be.
  static absl::StatusOr<DataCache> Open(std::string directory);

  // The blob's bytes, checked against size and digest; fetched if there is no copy, or a bad one.
  // DATA_LOSS when what is fetched is not what the name says.
  absl::StatusOr<MappedFile> Get(const v1::Blob& blob, Fetch fetch) const;

 private:
  explicit DataCache(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_DATA_CACHE_H_
