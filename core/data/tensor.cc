#include "core/data/tensor.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

struct DTypeInfo {
  std::string_view name;
  int64_t size;
};

// In the order of the enumerators.
constexpr std::array<DTypeInfo, 8> kDTypes = {{{"uint8", 1},
                                               {"int8", 1},
                                               {"uint16", 2},
                                               {"int16", 2},
                                               {"int32", 4},
                                               {"int64", 8},
                                               {"float32", 4},
                                               {"float64", 8}}};

}  // namespace

std::string_view DTypeName(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t DTypeSize(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }

int64_t ElementCount(std::span<const int64_t> shape) {
  constexpr int64_t kLimit = int64_t{1} << 62;
  int64_t count = 1;
  bool empty = false;
  for (int64_t dimension : shape) {
    if (dimension < 0) return -1;
    if (dimension == 0) {
      empty = true;  // but a negative or absurd dimension further on still counts
      continue;
    }
    if (count > kLimit / dimension) return -1;
    count *= dimension;
  }
  return empty ? 0 : count;
}

std::string ShapeString(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace lockstep
