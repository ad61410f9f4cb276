#ifndef LOCKSTEP_CORE_TRAINING_TARGET_FEED_H_
#define LOCKSTEP_CORE_TRAINING_TARGET_FEED_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/data/tensor.h"
#include "core/training/objective.h"

namespace lockstep {

// Where the targets of a batch lie.
struct TargetMemory {
  std::vector<int32_t> labels;
  std::vector<float> values;
  std::vector<float> weights;
};

// INVALID_ARGUMENT for the first value that is not a finite float; names `path` ("data.train.x"),
// value and sample.
absl::Status CheckFinite(absl::string_view path, const TensorView& tensor);

// What one output is compared with: class numbers or values of every sample. Thread-safe; copies
// what it needs of the data.
class TargetFeed {
 public:
  // Checks every value: INVALID_ARGUMENT names `path` ("data.train.y") and sample.
  static absl::StatusOr<TargetFeed> Create(absl::string_view path, const TensorView& y,
                                           const Objective& objective);

  // For batches of at most so many samples.
  TargetMemory MakeMemory(int64_t samples) const;
  Targets Gather(std::span<const int32_t> samples, TargetMemory& memory) const;

 private:
  TargetFeed() = default;

  std::vector<int32_t> labels_;  // [samples], or
  std::vector<float> values_;    // [samples, value_size]
  int64_t value_size_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_TARGET_FEED_H_
