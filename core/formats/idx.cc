#include <algorithm>
#include <bit>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/formats/inflate.h"
#include "core/formats/readers.h"

namespace lockstep {
namespace {

// The format: two zero bytes, a type, the number of dimensions, each dimension as four bytes, then
// the elements; all big-endian.
constexpr size_t kMagicBytes = 4;

std::optional<DType> IdxType(unsigned char code) {
  switch (code) {
    case 0x08:
      return DType::kUint8;
    case 0x09:
      return DType::kInt8;
    case 0x0B:
      return DType::kInt16;
    case 0x0C:
      return DType::kInt32;
    case 0x0D:
      return DType::kFloat32;
    case 0x0E:
      return DType::kFloat64;
    default:
      return std::nullopt;
  }
}

uint32_t BigEndian32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

absl::StatusOr<Tensor> ParseIdx(std::string_view file) {
  if (file.size() < kMagicBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("idx: the file has ", file.size(), " bytes, too few for a header"));
  }
  const auto code = static_cast<unsigned char>(file[2]);
  const std::optional<DType> dtype = IdxType(code);
  if (file[0] != 0 || file[1] != 0 || !dtype) {
    return absl::InvalidArgumentError(absl::StrCat("idx: the first bytes (",
                                                   absl::Hex(BigEndian32(file), absl::kZeroPad8),
                                                   ") are not those of an IDX file"));
  }
  const size_t rank = static_cast<unsigned char>(file[3]);
  const size_t header_bytes = kMagicBytes + 4 * rank;
  if (rank == 0 || file.size() < header_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("idx: ", rank, " dimensions need a header of ",
                                                   header_bytes, " bytes, the file has ",
                                                   file.size()));
  }
  Tensor tensor;
  tensor.dtype = *dtype;
  for (size_t i = 0; i < rank; ++i) {
    tensor.shape.push_back(BigEndian32(file.substr(kMagicBytes + 4 * i)));
  }
  const std::string_view data = file.substr(header_bytes);
  const int64_t size = DTypeSize(*dtype);
  const int64_t count = ElementCount(tensor.shape);
  if (count < 0 || count != static_cast<int64_t>(data.size()) / size ||
      static_cast<int64_t>(data.size()) % size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("idx: the header claims ", std::string(DTypeName(*dtype)), " ",
                     ShapeString(tensor.shape), ", but ", data.size(), " bytes follow it"));
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data));
  tensor.bytes.assign(bytes.begin(), bytes.end());
  static_assert(std::endian::native == std::endian::little);
  if (size > 1) {
    for (auto element = tensor.bytes.begin(); element != tensor.bytes.end(); element += size) {
      std::reverse(element, element + size);
    }
  }
  return tensor;
}

}  // namespace

absl::StatusOr<Tensor> ReadIdx(std::string_view file) {
  if (!file.starts_with("\x1f\x8b")) return ParseIdx(file);
  absl::StatusOr<std::string> plain = Gunzip(file, kMaxDecodedBytes);
  if (!plain.ok()) return plain.status();
  return ParseIdx(*plain);
}

}  // namespace lockstep
