#ifndef LOCKSTEP_CORE_TRAINING_DATA_FEED_H_
#define LOCKSTEP_CORE_TRAINING_DATA_FEED_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/network/network.h"
#include "core/training/loss.h"
#include "core/training/trainer.h"

namespace lockstep {

// Turns samples of a data set into a batch: inputs scaled to float, class numbers or target values.
// Thread-safe; the data must outlive it.
class DataFeed {
 public:
  // Checks every value: INVALID_ARGUMENT names `path` ("data.train"), tensor and sample. `classes`
  // is 0 when the targets are values, or when there are none (y without a shape).
  static absl::StatusOr<DataFeed> Create(absl::string_view path, const LabelledData& data,
                                         const Network& network, int64_t classes);

  int64_t samples() const { return samples_; }

  // x[i] = input of samples[i], scaled.
  void Inputs(const kernels::KernelTable& kernels, std::span<const int32_t> samples,
              float* x) const;
  void Labels(std::span<const int32_t> samples, int32_t* labels) const;
  void Values(std::span<const int32_t> samples, float* values) const;

 private:
  DataFeed() = default;

  int64_t samples_ = 0;
  TensorView x_;
  int64_t input_size_ = 0;
  float scale_ = 1;
  float offset_ = 0;
  std::vector<int32_t> labels_;  // [samples], or
  std::vector<float> values_;    // [samples, value_size]
  int64_t value_size_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_DATA_FEED_H_
