#ifndef LOCKSTEP_SERVER_STORE_BLOB_STORE_H_
#define LOCKSTEP_SERVER_STORE_BLOB_STORE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/data/digest.h"
#include "lockstep/v1/blob.pb.h"
#include "server/store/files.h"

namespace lockstep {

// Files named by the SHA-256 of what they hold, below one directory; uploads in progress stand in a
// directory beside them. A complete blob is durable and never changes. A digest that is not 64
// lower-case hexadecimal digits is INVALID_ARGUMENT everywhere. Thread-safe.
class BlobStore {
 public:
  // An upload in progress, one at a time for a digest. Destroying it keeps what was written, for an
  // hour, so that the upload can be resumed. Not thread-safe; must not outlive the store.
  class Writer {
   public:
    ~Writer();
    // Bytes held so far; where the next ones belong.
    int64_t offset() const { return offset_; }
    // INVALID_ARGUMENT beyond the announced size; RESOURCE_EXHAUSTED when the disk is full.
    absl::Status Append(std::string_view data);
    // Checks size and digest, then makes the blob durable and visible. DATA_LOSS on a wrong digest
    // (what was written is dropped), INVALID_ARGUMENT when bytes are missing (it is kept). Call
    // once.
    absl::Status Commit();

   private:
    friend class BlobStore;
    Writer(BlobStore* store, v1::Blob blob) : store_(store), blob_(std::move(blob)) {}
    absl::Status Resume();

    BlobStore* const store_;
    const v1::Blob blob_;
    File file_;
    Hasher hasher_{Hasher::Algorithm::kSha256};
    int64_t offset_ = 0;
  };

  // An open blob; stays readable even if the blob is deleted meanwhile. Thread-safe.
  class Reader {
   public:
    int64_t size_bytes() const { return size_bytes_; }
    // Up to `length` bytes from `offset`; fewer only at the end.
    absl::StatusOr<std::string> Read(int64_t offset, int64_t length) const {
      return file_.ReadAt(offset, length);
    }

   private:
    friend class BlobStore;
    Reader(File file, int64_t size) : file_(std::move(file)), size_bytes_(size) {}

    const File file_;
    const int64_t size_bytes_;
  };

  // Creates the directories if need be, and drops uploads that nobody came back for.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& directory);

  absl::StatusOr<v1::StatBlobResponse> Stat(const v1::Blob& blob) const;
  // Resumes what an earlier upload left. ABORTED while another one writes the same blob,
  // ALREADY_EXISTS when it is complete. Also drops uploads that have expired.
  absl::StatusOr<std::unique_ptr<Writer>> Write(const v1::Blob& blob);
  // NOT_FOUND names the digest.
  absl::StatusOr<std::unique_ptr<Reader>> Read(const std::string& sha256) const;
  // The whole of a small blob (weights).
  absl::StatusOr<std::string> ReadAll(const std::string& sha256) const;
  // OK when it is not there.
  absl::Status Delete(const std::string& sha256);
  // Digests of the complete blobs that have been here for longer than `age`.
  std::vector<std::string> ListOlderThan(std::chrono::seconds age) const;

 private:
  explicit BlobStore(std::string directory) : directory_(std::move(directory)) {}

  std::string CompletePath(const std::string& sha256) const { return directory_ + "/" + sha256; }
  std::string PartialDirectory() const { return directory_ + "/partial"; }
  std::string PartialPath(const std::string& sha256) const {
    return PartialDirectory() + "/" + sha256;
  }
  void DropExpiredUploads();
  bool Claim(const std::string& sha256);
  void Release(const std::string& sha256);

  const std::string directory_;
  absl::Mutex mutex_;
  // Digests that have a writer.
  absl::flat_hash_set<std::string> writing_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_BLOB_STORE_H_
