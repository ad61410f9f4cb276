#ifndef LOCKSTEP_CORE_FORMATS_INFLATE_H_
#define LOCKSTEP_CORE_FORMATS_INFLATE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lockstep {

// What readers decompress into memory at most. Deflate packs up to 1:1032, so without a bound a
// small hostile file could ask for any amount.
inline constexpr int64_t kMaxDecodedBytes = int64_t{8} << 30;

enum class DeflateWrapper {
  kNone,  // raw deflate, as inside a zip file
  kGzip,  // with gzip's header, CRC-32 and length, which are checked
};

struct Inflated {
  std::string bytes;
  size_t consumed = 0;  // bytes of input the stream took
};

// Decompresses the one stream at the start of `input`. INVALID_ARGUMENT with the byte offset when
// it is corrupt or truncated; RESOURCE_EXHAUSTED when it holds more than `max_bytes`. Memory grows
// with what has really come out, never with what a header claims.
absl::StatusOr<Inflated> Inflate(std::string_view input, DeflateWrapper wrapper, int64_t max_bytes);

// CRC-32 as in zip and gzip.
uint32_t Crc32(std::string_view bytes);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_FORMATS_INFLATE_H_
