#ifndef LOCKSTEP_CORE_TRAINING_METRICS_H_
#define LOCKSTEP_CORE_TRAINING_METRICS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/training/loss.h"

namespace lockstep {

// The mean in double, over blocks of 1024 in order, blocks in order (core/README.md, rule 8).
double BlockMean(std::span<const float> values);

// A metric of one output, exact over a whole set: each sample leaves a few numbers, and the value
// is computed from those of all samples. Weights of samples and classes do not count, as in Keras'
// `metrics`. Immutable; the same for every thread.
//
//   accuracy          classes: the largest output (the first of equal ones) is the label's.
//                     binary: the part of the outputs on the target's side of 1/2.
//   top_K_accuracy    classes: fewer than K outputs are larger than the label's.
//   precision, recall, f1   classes: each class against the rest, then their mean (macro average).
//                     binary: over all outputs, positive above 1/2. A quotient by 0 is 0.
//   auc               binary with one output: the area under the ROC curve, which is the chance
//                     that a positive sample scores higher than a negative one, ties counting half;
//                     0 when there are no such pairs.
//   mae, rmse         values: mean |d|; root of the mean d^2, over samples and outputs.
class Metric {
 public:
  // What `name` means for an output [N, columns] under a loss with this Loss::activation()
  // (softmax: classes, sigmoid: binary, linear: values); nullopt when it does not fit.
  static std::optional<Metric> Make(absl::string_view name, kernels::Activation activation,
                                    int64_t columns);
  // Whether there is such a metric, for some output.
  static bool Exists(absl::string_view name);
  // All names, for messages.
  static constexpr char kNames[] =
      "accuracy, top_K_accuracy, auc, precision, recall, f1, mae, rmse";

  const std::string& name() const { return name_; }
  // Cheap enough, and says enough about a single batch, for the step records.
  bool in_steps() const { return of_ == Of::kMean || of_ == Of::kRoot; }

  // Numbers that a sample leaves.
  int64_t width() const;
  // Writes them, [rows, width()]. y are logits, except for values.
  void Measure(int64_t rows, const float* y, const Targets& targets, float* numbers) const;
  // Of a set, from the numbers of its samples in its order. Allocates only when not in_steps().
  double Value(std::span<const float> numbers) const;
  // What Value allocates at most.
  int64_t ScratchBytes(int64_t samples) const;

 private:
  enum class Kind { kAccuracy, kTop, kAuc, kPrecision, kRecall, kF1, kMae, kRmse };
  // What the value is made of: the numbers' mean or its root, counts of hits, ranks.
  enum class Of { kMean, kRoot, kCounts, kRanks };

  struct Parsed {
    Kind kind;
    int64_t top;  // K of kTop
  };
  static std::optional<Parsed> Parse(absl::string_view name);

  Metric(absl::string_view name, Parsed parsed, kernels::Activation activation, int64_t columns);

  bool classes() const { return activation_ == kernels::Activation::kSoftmax; }
  float MeasureMean(int64_t r, const float* row, const Targets& targets) const;
  void MeasureCounts(int64_t r, const float* row, const Targets& targets, float* numbers) const;
  double Score(double hits, double predicted, double actual) const;
  double MacroScore(std::span<const float> numbers) const;
  double BinaryScore(std::span<const float> numbers) const;

  std::string name_;
  Kind kind_;
  Of of_;
  int64_t top_;
  kernels::Activation activation_;
  int64_t columns_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_METRICS_H_
