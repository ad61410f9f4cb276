#ifndef LOCKSTEP_CORE_TRAINING_POPULATION_STATISTICS_H_
#define LOCKSTEP_CORE_TRAINING_POPULATION_STATISTICS_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/network/network.h"
#include "core/tensor/aligned_buffer.h"
#include "core/training/job_run.h"

namespace lockstep {

// Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 2, lines 7 to 12: replaces every moving
// mean and variance by the training set's, exactly; a step a BatchNorm, in the order of the
// network, each from what the layers before it give in inference mode (core/README.md, rule 21).
class PopulationStatistics final : public JobRun {
 public:
  // Number of steps: the model's BatchNorms.
  static int64_t Steps(const v1::ModelSpec& model);
  // Estimate of what a run allocates.
  static int64_t MemoryBytes(const Network& network, int64_t samples, int threads);

  static absl::StatusOr<std::unique_ptr<JobRun>> Create(const JobPlan& plan,
                                                        const std::vector<TensorView>& x,
                                                        ThreadPool* pool,
                                                        std::string_view initial_weights);

  bool done() const override { return step_ == Steps(model_); }
  int64_t step() const override { return step_; }
  absl::Status Step() override;
  std::vector<v1::Event> TakeEvents() override { return std::exchange(events_, {}); }
  std::string StateHash() const override;
  std::string SerializeWeights() const override;
  RunSnapshot Save() const override;
  absl::Status Restore(const RunSnapshot& snapshot) override;

 private:
  PopulationStatistics(const v1::ModelSpec& model, Network network, std::vector<TensorView> x,
                       ThreadPool* pool);

  const v1::ModelSpec model_;
  const Network network_;
  const std::vector<TensorView> x_;
  ThreadPool* const pool_;
  AlignedBuffer<float> parameters_;
  AlignedBuffer<float> buffers_;
  int64_t step_ = 0;
  int next_layer_ = 0;
  std::vector<v1::Event> events_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_POPULATION_STATISTICS_H_
