#include "core/layers/pooling.h"

namespace lockstep {
namespace {

// y[n, i, j, c] = the largest x in the window that begins at (i * stride, j * stride) less the
// padding; of equal ones the first in (row, column) order gets the gradient. Global pooling is a
// window of the image's size.
class MaxPooling final : public Layer {
 public:
  explicit MaxPooling(Pooling pooling) : g_(pooling.geometry), output_(pooling.output) {}

  Shape output_shape() const override { return output_; }

  LayerTraits traits() const override { return {.cheap_backward = true}; }

  // The winners.
  int64_t saved_bytes(const Capacity& capacity) const override {
    return capacity.samples * out_size() * g_.winner_bytes();
  }

  void Forward(const ForwardContext& c) const override {
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      c.step.kernels->max_pool(g_, c.x() + n * in_size(), c.y + n * out_size(), Winners(c, n));
    }
  }

  void Infer(const InferContext& c) const override {
    for (int64_t n = 0; n < c.samples; ++n) {
      c.kernels->max_pool(g_, c.x() + n * in_size(), c.y + n * out_size(), nullptr);
    }
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      c.step.kernels->max_pool_backward(g_, Winners(c, n), c.dy + n * out_size(),
                                        c.dx() + n * in_size());
    }
  }

 private:
  std::byte* Winners(const LayerContext& c, int64_t n) const {
    return c.saved + (c.tile.begin + n) * out_size() * g_.winner_bytes();
  }
  int64_t in_size() const { return g_.height * g_.width * g_.channels; }
  int64_t out_size() const { return output_.size(); }

  const kernels::PoolGeometry g_;
  const Shape output_;
};

LayerOr Make(absl::StatusOr<Pooling> pooling) {
  if (!pooling.ok()) return pooling.status();
  return std::make_unique<MaxPooling>(*std::move(pooling));
}

LayerOr MakeGlobal(const Shape& input, bool keepdims) {
  const int64_t positions = input.positions();
  return Make(Pooling{.geometry = {.height = 1,
                                   .width = positions,
                                   .channels = input.channels(),
                                   .out_height = 1,
                                   .out_width = 1,
                                   .pool_height = 1,
                                   .pool_width = positions,
                                   .stride_height = 1,
                                   .stride_width = positions},
                      .output = GlobalPoolingShape(input, keepdims)});
}

}  // namespace

LayerOr BuildMaxPooling2D(const BuildContext& c, v1::Layer* layer) {
  return Make(CheckPooling2D(c, layer->mutable_max_pooling2d()));
}

LayerOr BuildMaxPooling1D(const BuildContext& c, v1::Layer* layer) {
  return Make(CheckPooling1D(c, layer->mutable_max_pooling1d()));
}

LayerOr BuildGlobalMaxPooling2D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  return MakeGlobal(c.input(), layer->global_max_pooling2d().keepdims());
}

LayerOr BuildGlobalMaxPooling1D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckSequence(c); !s.ok()) return s;
  return MakeGlobal(c.input(), layer->global_max_pooling1d().keepdims());
}

}  // namespace lockstep
