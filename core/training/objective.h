#ifndef LOCKSTEP_CORE_TRAINING_OBJECTIVE_H_
#define LOCKSTEP_CORE_TRAINING_OBJECTIVE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/network/network.h"
#include "core/training/checkpoint.h"
#include "core/training/loss.h"
#include "core/training/metrics.h"
#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// What one output of the network is trained to and measured by. Immutable.
struct Objective {
  // What the names of its metrics begin with: nothing where there is one output, else "<output>_".
  std::string prefix;
  int64_t begin;    // of the output in a sample's row of outputs
  int64_t columns;  // values of the output, a sample
  float weight;     // of its loss in the sum that is minimised
  Loss loss;
  std::vector<Metric> metrics;
};

// One an output, in their order. The spec has been checked and has its defaults filled in.
std::vector<Objective> MakeObjectives(const v1::TrainingSpec& training, const Network& network);

// By output: whether its loss takes its last activation over.
std::vector<bool> TakenActivations(std::span<const Objective> objectives);

// What the samples of a set gave at one output, by their position in it: losses, and the numbers
// that the metrics are computed from. The objective must outlive it.
class Scores {
 public:
  Scores(const Objective& objective, int64_t samples);

  // What the constructor and the values' computation allocate.
  static int64_t MemoryBytes(const Objective& objective, int64_t samples);

  // Fills in positions [first, first + rows) and, unless null, `gradient` (see Loss). May be called
  // on several threads at once, for different positions.
  void Measure(const kernels::KernelTable& kernels, int64_t first, int64_t rows, const float* y,
               const Targets& targets, float scale, float* gradient);

  const float* losses(int64_t first) const { return losses_.data() + first; }
  // The mean loss of the first `count` positions.
  double MeanLoss(int64_t count) const;
  // The value of metric m over the `count` positions from `first` on.
  double Value(size_t m, int64_t first, int64_t count) const;

  // The first `count` positions, under names that begin with `prefix`.
  void Save(const std::string& prefix, int64_t count, RunSnapshot* snapshot) const;
  // INVALID_ARGUMENT when they are not so many, of this objective. At most as many as there are.
  absl::Status Restore(const std::string& prefix, int64_t count, const RunSnapshot& snapshot);

 private:
  const Objective& objective_;
  std::vector<float> losses_;
  std::vector<std::vector<float>> numbers_;  // by metric: [samples, width]
};

// The loss over all outputs and, where there are several, each one's; then the metrics of each over
// the first `count` positions. `losses` has one value an output.
std::vector<v1::Metric> DescribeScores(std::span<const Objective> objectives,
                                       std::span<const Scores> scores,
                                       std::span<const double> losses, int64_t count);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_OBJECTIVE_H_
