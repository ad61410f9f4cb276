#ifndef LOCKSTEP_CORE_FORMATS_READERS_H_
#define LOCKSTEP_CORE_FORMATS_READERS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/data/tensor.h"

// Readers of the files people have their data in. They run in the client, on whole files in memory.
// Errors are INVALID_ARGUMENT and say what is wrong and where (byte offset, or row and column).
// None trusts a size that a header claims before it has been checked against what is there.
namespace lockstep {

// IDX (the MNIST format), plain or gzip-compressed.
absl::StatusOr<Tensor> ReadIdx(std::string_view file);

// NumPy .npy (1.0 to 3.0): little-endian or single-byte, C order; object arrays are refused.
absl::StatusOr<Tensor> ReadNpy(std::string_view file);

// NumPy .npz: a zip of .npy files, stored or deflated. Keys without ".npy".
absl::StatusOr<std::map<std::string, Tensor>> ReadNpz(std::string_view file);

// gzip, up to `max_bytes` of output; truncated or corrupt input is an error.
absl::StatusOr<std::string> Gunzip(std::string_view file, int64_t max_bytes);

struct CsvOptions {
  // Column that holds the label; by header name, or by number from 0 when there is no header.
  // Empty: the last one.
  std::string label_column;
  // The label is a number to be predicted (float32) rather than a class (int64).
  bool regression = false;
};

// A table as a data set: numeric columns become float32 features in order, categorical ones (any
// cell that is not a number) are one-hot encoded with their values in sorted order; labels likewise
// become classes in sorted order. A header is recognised by a first row without any number. Empty
// cells, "NA", "nan" and "?" are missing values: an error that names row and column.
struct CsvTable {
  Tensor x;                                // float32 [rows, features]
  Tensor y;                                // int64 [rows], or float32 [rows, 1] with regression
  std::vector<std::string> feature_names;  // "age", "colour=red", ...
  std::vector<std::string> class_names;    // empty with regression
};
absl::StatusOr<CsvTable> ReadCsv(std::string_view file, const CsvOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_FORMATS_READERS_H_
