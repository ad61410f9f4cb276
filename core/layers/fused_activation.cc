#include "core/layers/fused_activation.h"

namespace lockstep {

void FusedActivation::AddTraits(LayerTraits* traits) const {
  traits->backward_reads_y = !is_linear() && !saves_input();
  traits->overwrites_dy = !is_linear();
  traits->final_activation = f_.kind;
  traits->absorbs_affine = is_linear();
  traits->applies_relu = is_linear();
}

int64_t FusedActivation::saved_bytes(const Capacity& capacity) const {
  return saves_input() ? capacity.samples * shape_.size() * static_cast<int64_t>(sizeof(float)) : 0;
}

float* FusedActivation::Input(const ForwardContext& c) const {
  return saves_input() ? Saved(c) : c.y;
}

void FusedActivation::Forward(const ForwardContext& c) const {
  if (c.logits || is_linear() || is_relu()) return;
  c.step.kernels->activate(f_, c.tile.samples * shape_.positions(), shape_.channels(), Input(c),
                           c.y);
}

void FusedActivation::Infer(const InferContext& c) const {
  if (c.logits || is_linear() || is_relu()) return;
  c.kernels->activate(f_, c.samples * shape_.positions(), shape_.channels(), c.y, c.y);
}

void FusedActivation::Backward(const BackwardContext& c) const {
  if (c.logits || is_linear()) return;
  c.step.kernels->activate_backward(f_, c.tile.samples * shape_.positions(), shape_.channels(),
                                    saves_input() ? Saved(c) : c.y, c.dy, c.dy);
}

}  // namespace lockstep
