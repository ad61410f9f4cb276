#ifndef LOCKSTEP_CORE_TRAINING_OPTIMIZER_H_
#define LOCKSTEP_CORE_TRAINING_OPTIMIZER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/network/network.h"
#include "core/parallel/thread_pool.h"
#include "core/tensor/aligned_buffer.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Applies gradients to the flat vector of parameters. Formulas in training.proto; step scalars are
// computed in double from the step's number and rounded once.
class Optimizer {
 public:
  // `spec` with its defaults filled in.
  Optimizer(const v1::Optimizer& spec, int64_t parameters);

  // Flat vectors it keeps between steps, of the parameters' layout.
  static int SlotCount(const v1::Optimizer& spec);
  std::span<const AlignedBuffer<float>> slots() const { return slots_; }
  std::span<AlignedBuffer<float>> slots() { return slots_; }

  // Step number `step`, from 1, of the parameters in `range`; both vectors whole.
  void Apply(const kernels::KernelTable& kernels, ThreadPool& pool, int64_t step,
             double learning_rate, FlatRange range, std::span<const float> gradient,
             std::span<float> parameters);

 private:
  const v1::Optimizer spec_;
  std::vector<AlignedBuffer<float>> slots_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_OPTIMIZER_H_
