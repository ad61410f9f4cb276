#ifndef LOCKSTEP_CLIENT_LIB_BLOB_READER_H_
#define LOCKSTEP_CLIENT_LIB_BLOB_READER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

struct Connection;

// The bytes of a blob, front to back. When the connection breaks it comes back by itself and goes
// on at the next byte. Not thread-safe.
class BlobReader {
 public:
  BlobReader(const Connection* connection, std::string sha256, int64_t offset);
  ~BlobReader();

  // The next bytes, as many as the server sends at once (at most 1 MiB); empty at the end.
  absl::StatusOr<std::string> Next();
  // Exactly `length` bytes; OUT_OF_RANGE when the blob ends before.
  absl::StatusOr<std::string> Read(int64_t length);

  // Bytes of the whole blob; 0 before the first have arrived.
  int64_t total_bytes() const { return total_bytes_; }

 private:
  struct Call;

  const Connection* const connection_;
  const std::string sha256_;
  int64_t offset_;  // of the next byte to come from the server
  int64_t total_bytes_ = 0;
  std::string pending_;  // arrived, but not asked for by Read() yet
  std::unique_ptr<Call> call_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_LIB_BLOB_READER_H_
