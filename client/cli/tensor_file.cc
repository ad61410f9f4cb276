#include "client/cli/tensor_file.h"

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <utility>

#include "client/cli/session.h"
#include "core/formats/readers.h"

namespace lockstep {
namespace {

template <typename T>
void Append(std::span<const std::byte> bytes, std::vector<double>* values) {
  for (size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + i, sizeof(T));
    values->push_back(static_cast<double>(value));
  }
}

std::vector<double> Decode(DType dtype, std::span<const std::byte> bytes) {
  std::vector<double> values;
  values.reserve(bytes.size() / DTypeSize(dtype));
  switch (dtype) {
    case DType::kUint8:
      Append<uint8_t>(bytes, &values);
      break;
    case DType::kInt8:
      Append<int8_t>(bytes, &values);
      break;
    case DType::kUint16:
      Append<uint16_t>(bytes, &values);
      break;
    case DType::kInt16:
      Append<int16_t>(bytes, &values);
      break;
    case DType::kInt32:
      Append<int32_t>(bytes, &values);
      break;
    case DType::kInt64:
      Append<int64_t>(bytes, &values);
      break;
    case DType::kFloat32:
      Append<float>(bytes, &values);
      break;
    case DType::kFloat64:
      Append<double>(bytes, &values);
      break;
  }
  return values;
}

}  // namespace

absl::StatusOr<Tensor> ReadTensorFile(const std::string& path) {
  absl::StatusOr<std::string> file = ReadFile(path);
  if (!file.ok()) return file.status();
  absl::StatusOr<Tensor> tensor = file->starts_with("\x93NUMPY") ? ReadNpy(*file) : ReadIdx(*file);
  if (!tensor.ok()) {
    return absl::Status(tensor.status().code(),
                        fmt::format("{}: {}", path, std::string(tensor.status().message())));
  }
  if (tensor->shape.empty() || tensor->shape[0] == 0) {
    return absl::InvalidArgumentError(fmt::format("{}: there are no samples in it", path));
  }
  return tensor;
}

SampleReader::SampleReader(DType dtype, std::vector<int64_t> shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      sample_size_(ElementCount(std::span(shape_).subspan(1))) {}

SampleReader::SampleReader(Tensor tensor) : SampleReader(tensor.dtype, std::move(tensor.shape)) {
  bytes_ = std::move(tensor.bytes);
}

absl::StatusOr<SampleReader> SampleReader::Open(Client& client, const v1::Tensor& tensor) {
  const std::optional<DType> dtype = ParseDType(tensor.dtype());
  std::vector<int64_t> shape(tensor.shape().begin(), tensor.shape().end());
  if (!dtype.has_value() || shape.empty() || ElementCount(shape) < 0) {
    return absl::InvalidArgumentError(
        fmt::format("tensor {} is {} {}, which this client cannot read", tensor.name(),
                    tensor.dtype(), ShapeString(shape)));
  }
  SampleReader samples(*dtype, std::move(shape));
  samples.reader_ = client.ReadBlob(tensor.blob().sha256(), 0);
  return samples;
}

absl::StatusOr<std::vector<double>> SampleReader::Next(int64_t count) {
  const int64_t length = count * sample_size_ * DTypeSize(dtype_);
  if (reader_ != nullptr) {
    absl::StatusOr<std::string> bytes = reader_->Read(length);
    if (!bytes.ok()) return bytes.status();
    return Decode(dtype_, std::as_bytes(std::span(*bytes)));
  }
  if (length > static_cast<int64_t>(bytes_.size()) - offset_bytes_) {
    return absl::OutOfRangeError("there are no more samples");
  }
  std::span<const std::byte> bytes = std::span(bytes_).subspan(offset_bytes_, length);
  offset_bytes_ += length;
  return Decode(dtype_, bytes);
}

}  // namespace lockstep
