#ifndef LOCKSTEP_CORE_LAYERS_SCALE_AND_SHIFT_H_
#define LOCKSTEP_CORE_LAYERS_SCALE_AND_SHIFT_H_

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "core/layers/layer.h"
#include "core/layers/row_sums.h"

namespace lockstep {

// The end of a normalization within samples, y = normalized * gamma + beta: its two parameters, of
// which either may be missing, and their gradients. Both are sums across samples (core/README.md,
// rule 2) over `positions` rows a sample of `channels` values.
class ScaleAndShift {
 public:
  // Spec is a LayerNormalization or a GroupNormalization with its defaults filled in.
  template <typename Spec>
  ScaleAndShift(const Spec& spec, std::vector<int64_t> shape, int64_t positions, int64_t channels)
      : gamma_(spec.scale()), beta_(spec.center()), positions_(positions), channels_(channels) {
    if (gamma_)
      parameters_.push_back(
          Describe("gamma", shape, spec.gamma_initializer(), spec.gamma_regularizer()));
    if (beta_)
      parameters_.push_back(
          Describe("beta", shape, spec.beta_initializer(), spec.beta_regularizer()));
  }

  const std::vector<TensorSpec>& parameters() const { return parameters_; }
  // Null where there is none.
  const float* gamma(std::span<const float* const> parameters) const {
    return gamma_ ? parameters[0] : nullptr;
  }
  const float* beta(std::span<const float* const> parameters) const {
    return beta_ ? parameters.back() : nullptr;
  }

  // Combine reads dy of the whole batch.
  bool finish_reads_dy() const { return positions_ == 1 && !parameters_.empty(); }

  // Bytes of LayerContext::sums.
  int64_t SumsBytes(const Capacity& capacity) const {
    if (parameters_.empty()) return 0;
    return NodesBytes(capacity.shards) + RowSumsBytes(capacity, positions_, channels_);
  }
  // `normalized` is the tile's, and then the batch's.
  void Gather(const BackwardContext& c, const float* normalized) const {
    if (parameters_.empty() || !c.trainable) return;
    GatherSums(*c.step.kernels, c.tile, c.dy, normalized, {nullptr}, positions_, channels_,
               Blocks(c));
  }
  void Combine(const BackwardContext& c, const float* normalized) const {
    if (parameters_.empty()) return;
    double* sums = reinterpret_cast<double*>(c.sums);
    CombineNodeSums(c.step, c.dy, normalized, 2, positions_, channels_, Blocks(c), sums,
                    2 * channels_);
    for (int64_t node = 0; node < std::ssize(c.step.batch->nodes); ++node) {
      const int64_t offset = node * c.sum_node_stride;
      if (beta_) std::copy_n(sums, channels_, c.parameter_sums.back() + offset);
      if (gamma_) std::copy_n(sums + channels_, channels_, c.parameter_sums[0] + offset);
      sums += 2 * channels_;
    }
  }

 private:
  TensorSpec Describe(std::string name, std::vector<int64_t> shape,
                      const v1::Initializer& initializer,
                      const v1::Regularizer& regularizer) const {
    return {.name = std::move(name),
            .shape = std::move(shape),
            .initializer = initializer,
            .fan_in = channels_,
            .fan_out = channels_,
            .gradient = GradientKind::kSum,
            .regularizer = regularizer};
  }

  // The sums of the nodes, then those of their blocks.
  int64_t NodesBytes(int64_t nodes) const {
    return nodes * 2 * channels_ * static_cast<int64_t>(sizeof(double));
  }
  std::byte* Blocks(const BackwardContext& c) const {
    return c.sums + NodesBytes(std::ssize(c.step.batch->nodes));
  }

  const bool gamma_;
  const bool beta_;
  const int64_t positions_;
  const int64_t channels_;
  std::vector<TensorSpec> parameters_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_SCALE_AND_SHIFT_H_
