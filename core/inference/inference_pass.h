#ifndef LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_
#define LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_

#include <cstdint>

#include "core/network/network.h"

namespace lockstep {

// The network in inference mode, used by validation and serving alike. One thread; no row's bits
// depend on the others.
class InferencePass {
 public:
  // `logits`: without a final softmax. The network must outlive it.
  InferencePass(const Network& network, bool logits);

  // Bytes of memory that Run needs for so many samples.
  int64_t MemoryBytes(int64_t samples) const;

  // y = network(x) for `samples` rows, x already scaled. `memory` is 64-byte aligned; x and y lie
  // outside of it. Thread-safe when each call has its own memory.
  void Run(const kernels::KernelTable& kernels, const float* parameters, const float* buffers,
           int64_t samples, const float* x, float* y, std::byte* memory) const;

 private:
  const Network& network_;
  const bool logits_;
  int64_t largest_ = 0;  // floats of the largest activation of one sample
  int64_t scratch_bytes_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_
