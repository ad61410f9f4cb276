#include <Eigen/Core>
#include <algorithm>

#include "core/layers/pooling.h"

namespace lockstep {
namespace {

using Channels = Eigen::Map<Eigen::ArrayXf>;
using ConstChannels = Eigen::Map<const Eigen::ArrayXf>;

// y[n, i, j, c] = the mean of the x in the window that begins at (i * stride, j * stride) less the
// padding, of those inside the image (core/README.md, rule 3).
class AveragePooling final : public Layer {
 public:
  explicit AveragePooling(Pooling pooling) : g_(pooling.geometry), output_(pooling.output) {}

  Shape output_shape() const override { return output_; }

  LayerTraits traits() const override { return {.cheap_backward = true}; }

  void Forward(const ForwardContext& c) const override { Average(c.tile.samples, c.x(), c.y); }

  void Infer(const InferContext& c) const override { Average(c.samples, c.x(), c.y); }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    std::fill_n(c.dx(), c.tile.samples * in_size(), 0.0f);
    ForWindows(c.tile.samples, [&](int64_t out, const Window& window) {
      const ConstChannels dy(c.dy + out, g_.channels);
      window.ForPixels([&](int64_t in) {
        Channels dx(c.dx() + in, g_.channels);
        dx += dy / window.count();
      });
    });
  }

 private:
  // Pixels of a batch: rows [top, bottom) of `width` pixels each, columns [left, right).
  struct Window {
    int64_t top, bottom, left, right;
    int64_t width, channels;

    float count() const { return static_cast<float>((bottom - top) * (right - left)); }
    // Calls body(offset of a pixel in x), row by row.
    template <typename Body>
    void ForPixels(Body body) const {
      for (int64_t i = top; i < bottom; ++i) {
        for (int64_t j = left; j < right; ++j) body((i * width + j) * channels);
      }
    }
  };

  // Calls body(offset of an output pixel in y, its window), in order.
  template <typename Body>
  void ForWindows(int64_t samples, Body body) const {
    int64_t out = 0;
    for (int64_t n = 0; n < samples; ++n) {
      for (int64_t i = 0; i < g_.out_height; ++i) {
        const int64_t top = i * g_.stride_height - g_.pad_height;
        const int64_t bottom = std::min(g_.height, top + g_.pool_height);
        for (int64_t j = 0; j < g_.out_width; ++j, out += g_.channels) {
          const int64_t left = j * g_.stride_width - g_.pad_width;
          body(out, Window{.top = n * g_.height + std::max<int64_t>(0, top),
                           .bottom = n * g_.height + bottom,
                           .left = std::max<int64_t>(0, left),
                           .right = std::min(g_.width, left + g_.pool_width),
                           .width = g_.width,
                           .channels = g_.channels});
        }
      }
    }
  }

  void Average(int64_t samples, const float* x, float* y) const {
    ForWindows(samples, [&](int64_t out, const Window& window) {
      Channels sum(y + out, g_.channels);
      bool first = true;
      window.ForPixels([&](int64_t in) {
        const ConstChannels pixel(x + in, g_.channels);
        if (first) {
          sum = pixel;
        } else {
          sum += pixel;
        }
        first = false;
      });
      sum /= window.count();
    });
  }

  int64_t in_size() const { return g_.height * g_.width * g_.channels; }

  const kernels::PoolGeometry g_;
  const Shape output_;
};

LayerOr Make(absl::StatusOr<Pooling> pooling) {
  if (!pooling.ok()) return pooling.status();
  return std::make_unique<AveragePooling>(*std::move(pooling));
}

}  // namespace

LayerOr BuildAveragePooling2D(const BuildContext& c, v1::Layer* layer) {
  return Make(CheckPooling2D(c, layer->mutable_average_pooling2d()));
}

LayerOr BuildAveragePooling1D(const BuildContext& c, v1::Layer* layer) {
  return Make(CheckPooling1D(c, layer->mutable_average_pooling1d()));
}

}  // namespace lockstep
