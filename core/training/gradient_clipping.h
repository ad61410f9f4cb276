#ifndef LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_
#define LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_

#include <span>
#include <vector>

#include "core/parallel/thread_pool.h"
#include "core/training/parameter_blocks.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Bounds a gradient as training.proto says: by element, by tensor or as a whole; measures it. Not
// thread-safe; allocates nothing after the constructor.
class GradientClipping {
 public:
  GradientClipping(const v1::GradientClipping& spec, const Network& network);

  // `norm`, unless null: the Euclidean norm of the whole gradient, of what learns, before clipping.
  void Apply(ThreadPool& pool, std::span<float> gradient, double* norm = nullptr);

 private:
  void SumSquares(ThreadPool& pool, std::span<const float> gradient);
  // Of what the blocks [begin, end) hold, from their sums of squares.
  double Length(size_t begin, size_t end) const;
  void ScaleToNorm(ThreadPool& pool, double norm, std::span<float> gradient);

  const v1::GradientClipping spec_;
  const std::vector<ParameterBlock> blocks_;
  // By block: the sum of its squares, and the factor that it is scaled by.
  std::vector<double> squares_;
  std::vector<float> factors_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_
