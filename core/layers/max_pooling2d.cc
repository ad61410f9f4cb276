#include "core/layers/build.h"

namespace lockstep {
namespace {

// y[n, i, j, c] = the largest x in the window at (i * stride, j * stride); of equal ones the first
// in (row, column) order gets the gradient.
class MaxPooling2D final : public Layer {
 public:
  explicit MaxPooling2D(const kernels::PoolGeometry& geometry) : g_(geometry) {}

  Shape output_shape() const override { return {g_.out_height, g_.out_width, g_.channels}; }

  LayerTraits traits() const override { return {.cheap_backward = true}; }

  // The winners.
  int64_t saved_bytes(const Capacity& capacity) const override {
    return capacity.samples * out_size() * static_cast<int64_t>(sizeof(int32_t));
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
  int32_t* Winners(const LayerContext& c, int64_t n) const {
    return reinterpret_cast<int32_t*>(c.saved) + (c.tile.begin + n) * out_size();
  }
  int64_t in_size() const { return g_.height * g_.width * g_.channels; }
  int64_t out_size() const { return g_.out_height * g_.out_width * g_.channels; }

  const kernels::PoolGeometry g_;
};

}  // namespace

LayerOr BuildMaxPooling2D(const BuildContext& c, v1::Layer* layer) {
  v1::MaxPooling2D& spec = *layer->mutable_max_pooling2d();
  if (auto s = CheckImage(c); !s.ok()) return s;
  constexpr int64_t kMaxExtent = 1 << 20;
  auto pool = ParsePair(c, "pool_size", spec.mutable_pool_size(), {2, 2}, kMaxExtent);
  if (!pool.ok()) return pool.status();
  auto strides = ParsePair(c, "strides", spec.mutable_strides(), *pool, kMaxExtent);
  if (!strides.ok()) return strides.status();
  if (pool->height > c.input()[0] || pool->width > c.input()[1]) {
    return FieldError(
        c, "pool_size",
        absl::StrCat("[", pool->height, ", ", pool->width, "] does not fit the input [",
                     c.input()[0], ", ", c.input()[1], ", ", c.input()[2], "]"));
  }
  return std::make_unique<MaxPooling2D>(
      kernels::PoolGeometry{.height = c.input()[0],
                            .width = c.input()[1],
                            .channels = c.input()[2],
                            .out_height = (c.input()[0] - pool->height) / strides->height + 1,
                            .out_width = (c.input()[1] - pool->width) / strides->width + 1,
                            .pool_height = pool->height,
                            .pool_width = pool->width,
                            .stride_height = strides->height,
                            .stride_width = strides->width});
}

}  // namespace lockstep
