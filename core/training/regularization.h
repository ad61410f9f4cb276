#ifndef LOCKSTEP_CORE_TRAINING_REGULARIZATION_H_
#define LOCKSTEP_CORE_TRAINING_REGULARIZATION_H_

#include <span>
#include <vector>

#include "core/parallel/thread_pool.h"
#include "core/training/parameter_blocks.h"

namespace lockstep {

// What the layers' regularizers add to loss and gradient: l1 * sum |w| + l2 * sum w^2 of each
// tensor that has one (core/README.md, rule 16). Not thread-safe; allocates nothing after the
// constructor.
class Regularization {
 public:
  // The network must outlive it.
  explicit Regularization(const Network& network);

  double Penalty(ThreadPool& pool, std::span<const float> parameters);
  // Adds its derivative.
  void AddGradient(ThreadPool& pool, std::span<const float> parameters,
                   std::span<float> gradient) const;

 private:
  const v1::Regularizer& regularizer(const ParameterBlock& block) const {
    return network_.parameters()[block.tensor].spec.regularizer;
  }

  const Network& network_;
  std::vector<ParameterBlock> blocks_;
  std::vector<double> penalties_;  // by block
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_REGULARIZATION_H_
