#ifndef LOCKSTEP_SERVER_STORE_BLOB_STORE_H_
#define LOCKSTEP_SERVER_STORE_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/blob.pb.h"

namespace lockstep {

// Files named by the SHA-256 of what they hold, below one directory. A complete blob is durable and
// never changes. Thread-safe.
class BlobStore {
 public:
  // An upload in progress, one at a time for a digest (ABORTED for a second). Destroying it keeps
  // what was written, for an hour, so that the upload can be resumed.
  class Writer {
   public:
    virtual ~Writer() = default;
    // Bytes held so far; where the next ones belong.
    virtual int64_t offset() const = 0;
    // INVALID_ARGUMENT beyond the announced size; RESOURCE_EXHAUSTED when the disk is full.
    virtual absl::Status Append(std::string_view data) = 0;
    // Checks size and digest, then makes the blob durable and visible. DATA_LOSS on a wrong digest
    // (what was written is dropped), INVALID_ARGUMENT when bytes are missing (it is kept).
    virtual absl::Status Commit() = 0;
  };

  // An open blob; stays readable even if the blob is deleted meanwhile.
  class Reader {
   public:
    virtual ~Reader() = default;
    virtual int64_t size_bytes() const = 0;
    // Up to `length` bytes from `offset`; fewer only at the end.
    virtual absl::StatusOr<std::string> Read(int64_t offset, int64_t length) const = 0;
  };

  // Creates the directory, and drops uploads that nobody came back for.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& directory);
  virtual ~BlobStore() = default;

  virtual absl::StatusOr<v1::StatBlobResponse> Stat(const v1::Blob& blob) const = 0;
  virtual absl::StatusOr<std::unique_ptr<Writer>> Write(const v1::Blob& blob) = 0;
  // NOT_FOUND names the digest.
  virtual absl::StatusOr<std::unique_ptr<Reader>> Read(const std::string& sha256) const = 0;
  // The whole of a small blob (weights).
  virtual absl::StatusOr<std::string> ReadAll(const std::string& sha256) const = 0;
  virtual absl::Status Delete(const std::string& sha256) = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_BLOB_STORE_H_
