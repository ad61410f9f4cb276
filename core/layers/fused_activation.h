#ifndef LOCKSTEP_CORE_LAYERS_FUSED_ACTIVATION_H_
#define LOCKSTEP_CORE_LAYERS_FUSED_ACTIVATION_H_

#include <cstddef>
#include <cstdint>

#include "core/layers/layer.h"

namespace lockstep {

// The activation at the end of a layer with weights, y = f(x), where x is what the layer computed.
// Most gradients follow from y; for the others x is kept in the layer's saved memory, which must be
// this class's alone.
class FusedActivation {
 public:
  FusedActivation(kernels::ActivationFunction f, Shape shape) : f_(f), shape_(std::move(shape)) {}

  bool is_linear() const { return f_.kind == kernels::Activation::kLinear; }
  // The contraction applies it, at no cost.
  bool is_relu() const { return f_.kind == kernels::Activation::kRelu; }

  // Sets what is true of any layer with such an activation.
  void AddTraits(LayerTraits* traits) const;
  int64_t saved_bytes(const Capacity& capacity) const;

  // Where Forward is to put x: in y, or in the saved memory.
  float* Input(const ForwardContext& c) const;
  void Forward(const ForwardContext& c) const;
  // In place.
  void Infer(const InferContext& c) const;
  // Turns dy into the gradient of x.
  void Backward(const BackwardContext& c) const;

 private:
  bool saves_input() const { return kernels::DifferentiatesFromInput(f_.kind); }
  // Of the tile.
  float* Saved(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved) + c.tile.begin * shape_.size();
  }

  const kernels::ActivationFunction f_;
  const Shape shape_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_FUSED_ACTIVATION_H_
