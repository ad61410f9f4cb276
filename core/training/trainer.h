#ifndef LOCKSTEP_CORE_TRAINING_TRAINER_H_
#define LOCKSTEP_CORE_TRAINING_TRAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Inputs [n, ...], labels [n] or targets [n, ...] of each output, and perhaps weights [n], as the
// job's data sets hold them.
struct LabelledData {
  TensorView x;
  std::vector<TensorView> y;
  std::optional<TensorView> sample_weight = std::nullopt;
};

// Trains one job, step by step. Not thread-safe: one thread calls it; it spreads each step over the
// pool. The data must outlive it.
class Trainer {
 public:
  // Checks the data's values (labels within the classes, no NaN or infinity): INVALID_ARGUMENT with
  // the sample's number.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(
      const JobPlan& plan, const LabelledData& train, const std::optional<LabelledData>& validation,
      ThreadPool* pool);
  ~Trainer();

  // All steps are done, or early stopping has ended the training.
  bool done() const;
  // Optimizer steps done.
  int64_t step() const;

  // One optimizer step; after the last one of an epoch also its validation. FAILED_PRECONDITION
  // with step and layer when the loss (or, at the end of an epoch, a weight) is no longer finite;
  // training cannot go on after that.
  absl::Status Step();

  // What there is to log since the last call: step and epoch records and, if the job's resources
  // ask for it, a profile; without sequence and time.
  std::vector<v1::Event> TakeEvents();

  // BLAKE2s-256 of parameters, buffers, optimizer state (the average of the weights, if there is
  // one, with it) and step, in hexadecimal.
  std::string StateHash() const;

  // Parameters (their average, if there is one) and buffers as they are now, as a safetensors file.
  std::string SerializeWeights() const;

 private:
  struct Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_TRAINER_H_
