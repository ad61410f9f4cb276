#ifndef LOCKSTEP_CORE_TRAINING_TRAINER_H_
#define LOCKSTEP_CORE_TRAINING_TRAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_run.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Trains one job, step by step. Not thread-safe: one thread calls it; it spreads each step over the
// pool. The data must outlive it.
class Trainer final : public JobRun {
 public:
  // Checks the data's values (labels within the classes, no NaN or infinity): INVALID_ARGUMENT with
  // the sample's number. `initial_weights`: the safetensors file that the plan's spec names, 4-byte
  // aligned; INVALID_ARGUMENT lists all of it that does not fit. Only read here.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(
      const JobPlan& plan, const LabelledData& train, const std::optional<LabelledData>& validation,
      ThreadPool* pool, std::string_view initial_weights = {});
  ~Trainer() override;

  // All steps are done, or early stopping has ended the training.
  bool done() const override;
  // Optimizer steps done.
  int64_t step() const override;

  // One optimizer step; after the last one of an epoch also its validation. FAILED_PRECONDITION
  // with step and layer when the loss (or, at the end of an epoch, a weight) is no longer finite;
  // training cannot go on after that.
  absl::Status Step() override;

  // What there is to log since the last call, without sequence and time: step and epoch records;
  // reports of weights and BatchNorms, and warnings where they call for one; if the job's resources
  // ask for it, a profile.
  std::vector<v1::Event> TakeEvents() override;

  // BLAKE2s-256 of parameters, buffers, optimizer state (the average of the weights, if there is
  // one, with it) and step, in hexadecimal.
  std::string StateHash() const override;

  // Parameters (their average, if there is one) and buffers as they are now, as a safetensors file.
  std::string SerializeWeights() const override;

  RunSnapshot Save() const override;
  // A profile is of steps from here on.
  absl::Status Restore(const RunSnapshot& snapshot) override;

 private:
  struct Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_TRAINER_H_
