#ifndef LOCKSTEP_CORE_TRAINING_DATA_FEED_H_
#define LOCKSTEP_CORE_TRAINING_DATA_FEED_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/network/network.h"
#include "core/training/objective.h"
#include "core/training/target_feed.h"
#include "core/training/trainer.h"

namespace lockstep {

// Turns samples of a data set into a batch: inputs scaled to float, each output's targets, weights.
// Thread-safe; the data must outlive it.
class DataFeed {
 public:
  // Checks every value: INVALID_ARGUMENT names `path` ("data.train"), tensor and sample. Without
  // objectives there are no targets.
  static absl::StatusOr<DataFeed> Create(absl::string_view path, const LabelledData& data,
                                         const Network& network,
                                         std::span<const Objective> objectives);

  int64_t samples() const { return samples_; }

  // x[i] = row of inputs of samples[i], scaled.
  void Inputs(const kernels::KernelTable& kernels, std::span<const int32_t> samples,
              float* x) const;
  // What output o is compared with; it lies in `memory`, which is for as many samples at least.
  Targets GatherTargets(size_t o, std::span<const int32_t> samples, TargetMemory& memory) const;
  TargetMemory MakeTargetMemory(size_t o, int64_t samples) const;

 private:
  DataFeed() = default;

  int64_t samples_ = 0;
  struct Input {
    TensorView x;
    int64_t size;  // values a sample
    float scale;
    float offset;
  };

  void Load(const kernels::KernelTable& kernels, const Input& input, int64_t sample,
            float* x) const;

  std::vector<Input> inputs_;
  std::vector<TargetFeed> targets_;  // by output
  std::vector<float> weights_;       // [samples], or empty: all 1
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_DATA_FEED_H_
