#ifndef LOCKSTEP_CORE_LAYERS_BATCH_NORMALIZATION_H_
#define LOCKSTEP_CORE_LAYERS_BATCH_NORMALIZATION_H_

#include <memory>
#include <string>
#include <vector>

#include "core/layers/layer.h"

namespace lockstep {

// What a BatchNormalization is whether or not it learns: its tensors, and the affine map that it is
// in inference. Conventions: proto/lockstep/v1/model.proto. Arithmetic: core/README.md, rule 6.
class BatchNormalization : public Layer {
 public:
  // `spec` with its defaults filled in; `axis` of the sample, counted from 0.
  BatchNormalization(const v1::BatchNormalization& spec, Shape shape, int axis);

  Shape output_shape() const override { return shape_; }
  std::vector<TensorSpec> parameters() const override;
  std::vector<TensorSpec> buffers() const override;

  int64_t packed_bytes(Pass pass) const override;
  void Pack(const PackContext& c) const override;
  int64_t infer_scratch_bytes(int64_t samples) const override { return ColumnsBytes(samples); }
  void Infer(const InferContext& c) const override;
  void InferenceAffine(std::span<const float* const> parameters,
                       std::span<const float* const> buffers, double* scale,
                       double* offset) const override;

 protected:
  int64_t channels() const { return shape_[axis_]; }
  // Values of a channel in a sample, and how far apart two of its neighbours lie in the input's
  // layout [..., channels, inner].
  int64_t positions() const { return shape_.size() / channels(); }
  int64_t inner() const { return inner_; }
  bool axis_is_last() const { return axis_ + 1 == shape_.rank(); }

  // The same values as [samples * positions, channels]: x itself if the channels come last, else a
  // copy in `memory`, which takes ColumnsBytes.
  const float* Columns(const float* x, int64_t samples, std::byte* memory) const;
  void FromColumns(const float* columns, int64_t samples, float* x) const;
  int64_t ColumnsBytes(int64_t samples) const {
    return inner_ == 1 ? 0 : samples * shape_.size() * static_cast<int64_t>(sizeof(float));
  }

  // vectors = {m, a, b} of rule 6.
  template <typename Statistic>
  void MakeAffine(std::span<const float* const> parameters, const Statistic* mean,
                  const Statistic* variance, float* vectors) const;
  // y = fma(x - m, a, b); `memory` takes ColumnsBytes.
  void Normalize(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                 const float* vectors, bool relu, std::byte* memory, float* y) const;

  const v1::BatchNormalization spec_;
  const Shape shape_;

 private:
  TensorSpec Channels(std::string name, const v1::Initializer& initializer) const;

  const int axis_;
  const int64_t inner_;
};

// One that learns: normalises by the statistics of the batch, or of groups of its shards.
std::unique_ptr<const Layer> MakeTrainedBatchNormalization(const v1::BatchNormalization& spec,
                                                           const Shape& shape, int axis);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_BATCH_NORMALIZATION_H_
