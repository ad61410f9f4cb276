#include "core/formats/inflate.h"

#include <zlib.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

// zlib counts input and output in 32 bits, so long ones are handed over in pieces.
constexpr size_t kMaxPiece = size_t{1} << 30;
constexpr size_t kFirstOutput = size_t{64} << 10;

int WindowBits(DeflateWrapper wrapper) {
  return wrapper == DeflateWrapper::kGzip ? 16 + MAX_WBITS : -MAX_WBITS;
}

}  // namespace

absl::StatusOr<Inflated> Inflate(std::string_view input, DeflateWrapper wrapper,
                                 int64_t max_bytes) {
  z_stream stream = {};
  if (inflateInit2(&stream, WindowBits(wrapper)) != Z_OK) {
    return absl::ResourceExhaustedError("no memory to decompress");
  }
  absl::Cleanup end = [&stream] { inflateEnd(&stream); };

  Inflated result;
  size_t written = 0;
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    if (written == result.bytes.size()) {
      // One byte beyond the limit tells a stream that just fits from one that does not.
      const size_t limit = static_cast<size_t>(max_bytes) + 1;
      if (written == limit) {
        return absl::ResourceExhaustedError(
            absl::StrCat("holds more than the ", max_bytes, " bytes allowed"));
      }
      result.bytes.resize(std::min(limit, std::max(kFirstOutput, 2 * written)));
    }
    const std::string_view rest = input.substr(result.consumed).substr(0, kMaxPiece);
    const size_t room = std::min(kMaxPiece, result.bytes.size() - written);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest.data()));
    stream.avail_in = static_cast<uInt>(rest.size());
    stream.next_out = reinterpret_cast<Bytef*>(result.bytes.data() + written);
    stream.avail_out = static_cast<uInt>(room);
    code = inflate(&stream, Z_NO_FLUSH);
    result.consumed += rest.size() - stream.avail_in;
    written += room - stream.avail_out;
    if (code == Z_BUF_ERROR) {  // no progress: there is room, so the input has run out
      return absl::InvalidArgumentError(
          absl::StrCat("compressed data is truncated after ", input.size(), " bytes"));
    }
    if (code != Z_OK && code != Z_STREAM_END) {
      return absl::InvalidArgumentError(
          absl::StrCat("compressed data is corrupt near byte ", result.consumed,
                       stream.msg != nullptr ? absl::StrCat(" (", stream.msg, ")") : ""));
    }
  }
  if (written > static_cast<size_t>(max_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("holds more than the ", max_bytes, " bytes allowed"));
  }
  result.bytes.resize(written);
  return result;
}

uint32_t Crc32(std::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace lockstep
