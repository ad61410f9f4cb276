#ifndef LOCKSTEP_CLIENT_CLI_TENSOR_FILE_H_
#define LOCKSTEP_CLIENT_CLI_TENSOR_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lib/client.h"
#include "core/data/tensor.h"
#include "lockstep/v1/dataset.pb.h"

namespace lockstep {

// The tensor in a local .npy or IDX file (gzip-compressed or not), whatever its name.
absl::StatusOr<Tensor> ReadTensorFile(const std::string& path);

// The samples of a tensor, front to back, from a local file or a registered data set. What is not
// asked for is not transferred.
class SampleReader {
 public:
  explicit SampleReader(Tensor tensor);
  // INVALID_ARGUMENT for a dtype or shape that no data set may have.
  static absl::StatusOr<SampleReader> Open(Client& client, const v1::Tensor& tensor);

  // Of the whole tensor; the first dimension counts the samples.
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t samples() const { return shape_[0]; }
  // Elements of one sample.
  int64_t sample_size() const { return sample_size_; }
  bool is_integer() const { return dtype_ != DType::kFloat32 && dtype_ != DType::kFloat64; }

  // The next `count` samples as numbers. OUT_OF_RANGE beyond the last.
  absl::StatusOr<std::vector<double>> Next(int64_t count);

 private:
  SampleReader(DType dtype, std::vector<int64_t> shape);

  DType dtype_;
  std::vector<int64_t> shape_;
  int64_t sample_size_;
  int64_t offset_bytes_ = 0;
  std::vector<std::byte> bytes_;        // a local file's, or
  std::unique_ptr<BlobReader> reader_;  // a data set's
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_TENSOR_FILE_H_
