#ifndef LOCKSTEP_CORE_FORMATS_SAFETENSORS_H_
#define LOCKSTEP_CORE_FORMATS_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// The safetensors file format (huggingface/safetensors, README "Format"), tensors of float32, and
// of int64 as PyTorch's counters are: 8 bytes little-endian header length, a JSON header, then the
// tensors' bytes without holes.
struct FloatTensorView {
  std::string name;
  std::vector<int64_t> shape;
  std::span<const float> values;
};

struct IntegerTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
};

struct SafetensorsFile {
  std::map<std::string, std::string> metadata;
  std::vector<IntegerTensor> integers;
  std::vector<FloatTensorView> tensors;  // in the order of their offsets
};

// The file's bytes. The header is padded with spaces so that the data starts 8-byte aligned.
std::string WriteSafetensors(const std::map<std::string, std::string>& metadata,
                             std::span<const FloatTensorView> tensors);

// Views into `bytes`, which must outlive them and start 4-byte aligned. INVALID_ARGUMENT for
// anything that is not a whole and tidy file; hostile headers are bounded in depth and size.
absl::StatusOr<SafetensorsFile> ReadSafetensors(std::string_view bytes);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_FORMATS_SAFETENSORS_H_
