#ifndef LOCKSTEP_CORE_DATA_TENSOR_H_
#define LOCKSTEP_CORE_DATA_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// Element types of data sets, with NumPy's names ("uint8", "float32", ...).
enum class DType : uint8_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kInt32,
  kInt64,
  kFloat32,
  kFloat64,
};

std::string_view DTypeName(DType dtype);
std::optional<DType> ParseDType(std::string_view name);
// In bytes.
int64_t DTypeSize(DType dtype);

// A row-major, little-endian array as it was read or is to be written. Its first dimension counts
// the samples.
struct Tensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

// The same, owned by someone else (a mapped file, a Tensor).
struct TensorView {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  TensorView() = default;
  TensorView(DType dtype, std::vector<int64_t> shape, std::span<const std::byte> bytes)
      : dtype(dtype), shape(std::move(shape)), bytes(bytes) {}
  TensorView(const Tensor& tensor)  // NOLINT: a view of anything that owns
      : dtype(tensor.dtype), shape(tensor.shape), bytes(tensor.bytes) {}
};

// Product of the dimensions; -1 when one is negative or the product passes 2^62.
int64_t ElementCount(std::span<const int64_t> shape);
// "[28, 28, 1]"
std::string ShapeString(std::span<const int64_t> shape);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_DATA_TENSOR_H_
