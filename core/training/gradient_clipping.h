#ifndef LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_
#define LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_

#include <span>
#include <vector>

#include "core/parallel/thread_pool.h"
#include "core/training/parameter_blocks.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Bounds a gradient as training.proto says: by element, by tensor or as a whole. Not thread-safe;
// allocates nothing after the constructor.
class GradientClipping {
 public:
  GradientClipping(const v1::GradientClipping& spec, const Network& network);

  void Apply(ThreadPool& pool, std::span<float> gradient);

 private:
  void ScaleToNorm(ThreadPool& pool, double norm, std::span<float> gradient);

  const v1::GradientClipping spec_;
  std::vector<ParameterBlock> blocks_;  // of what is clipped at all
  // By block: the sum of its squares, then the factor that it is scaled by.
  std::vector<double> squares_;
  std::vector<float> factors_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_GRADIENT_CLIPPING_H_
