#ifndef LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_
#define LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_

#include <cstdint>
#include <vector>

#include "core/inference/inference_plan.h"
#include "core/network/network.h"
#include "core/tensor/aligned_buffer.h"

namespace lockstep {

// The network in inference mode, used by validation and serving alike: weights packed once, a
// BatchNorm that directly follows a convolution or dense layer folded into it (core/README.md, rule
// 11). No row's bits depend on the others.
class InferencePass {
 public:
  // `logits`, by output: without a final softmax or sigmoid. The network must outlive it.
  InferencePass(const Network& network, const std::vector<bool>& logits);

  // Folds and packs. Must be called before Run, and again when the weights have changed; parameters
  // and buffers must outlive the calls of Run that follow.
  void SetWeights(const kernels::KernelTable& kernels, const float* parameters,
                  const float* buffers);

  // Bytes of memory that Run needs, for any number of samples.
  int64_t MemoryBytes() const { return plan_.memory_bytes(); }
  // What SetWeights keeps.
  int64_t PackedBytes() const { return packed_.size() + folded_.size() * int64_t{sizeof(float)}; }

  // y = network(x) for `samples` rows of all inputs, already scaled, and of all outputs, on the
  // calling thread. `memory` is 64-byte aligned; x and y lie outside of it. Thread-safe when each
  // call has its own memory.
  void Run(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
           std::byte* memory) const;

 private:
  void RunPart(const kernels::KernelTable& kernels, int64_t samples, const float* x, float* y,
               std::byte* memory) const;

  const Network& network_;
  const std::vector<bool> logits_;  // by node
  const InferencePlan plan_;
  AlignedBuffer<std::byte> packed_;
  AlignedBuffer<float> folded_;
  // By node: what its layer reads.
  struct Weights {
    std::vector<const float*> parameters;
    std::vector<const float*> buffers;
  };
  std::vector<Weights> weights_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_INFERENCE_INFERENCE_PASS_H_
