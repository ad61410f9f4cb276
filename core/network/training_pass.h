#ifndef LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_
#define LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/network/network.h"
#include "core/tensor/aligned_buffer.h"

namespace lockstep {

// The memory of training steps, planned once, and the passes over the layers. Not thread-safe; the
// network must outlive it.
class TrainingPass {
 public:
  // `logits`: the last layer leaves its softmax to the loss.
  TrainingPass(const Network& network, const Capacity& capacity, int nodes, bool logits);

  // What the constructor allocates.
  static int64_t MemoryBytes(const Network& network, const Capacity& capacity, int nodes);

  // Inputs of the batch, scaled: [samples, input], to be written before Forward.
  float* input() { return input_; }
  // After Forward: [samples, output].
  const float* output() const { return outputs_.back(); }
  // Gradient of the loss at output(), to be written before Backward.
  float* output_gradient() { return gradients_[0]; }

  void Forward(const StepContext& step, const float* parameters, float* buffers);
  void Backward(const StepContext& step, const float* parameters);

  // Combines the gradients of all nodes and workers; the result is whole in gradient().
  void Reduce(const StepContext& step);
  // In the layout of the parameters.
  std::span<const float> gradient() const {
    return {contractions_.data(), static_cast<size_t>(network_.parameters_size())};
  }

  // The first layer whose output has a value that is not finite, or null.
  const Network::Node* FirstNonFinite(int64_t samples) const;

 private:
  const Network& network_;
  const bool logits_;
  AlignedBuffer<std::byte> arena_;
  float* input_ = nullptr;
  std::vector<float*> outputs_;    // by layer; a view's is its input's
  std::vector<std::byte*> saved_;  // by layer
  float* gradients_[2] = {};       // of the activations: of a layer's output and of its input
  std::byte* scratch_ = nullptr;
  // Gradients by kind: contractions [nodes][parameters], where node 0's row becomes the whole
  // gradient; sums [nodes][sums]; what is global already, once.
  AlignedBuffer<float> contractions_;
  AlignedBuffer<double> sums_;
  AlignedBuffer<float> globals_;
  int64_t sums_size_ = 0;
  // Of each parameter in the row of its kind.
  std::vector<int64_t> gradient_offset_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_
