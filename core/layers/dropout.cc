#include <algorithm>
#include <array>

#include "core/layers/build.h"
#include "core/numerics/random.h"

namespace lockstep {
namespace {

// In training y = x * mask, mask = 1 / (1 - rate) where the element's random number is >= rate,
// else 0; the mask is a function of seed, step, layer, position in the global batch and element, so
// Backward computes it again instead of keeping it. The identity in inference.
class Dropout final : public Layer {
 public:
  Dropout(double rate, int index, Shape shape)
      : rate_(static_cast<float>(rate)),
        scale_(static_cast<float>(1.0 / (1.0 - rate))),
        index_(index),
        shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  void Forward(const ForwardContext& c) const override { Apply(c, c.x(), c.y); }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() != nullptr) Apply(c, c.dy, c.dx());
  }

  void Infer(const InferContext& c) const override {
    std::copy_n(c.x(), c.samples * shape_.size(), c.y);
  }

 private:
  void Apply(const LayerContext& c, const float* from, float* to) const {
    const StepContext& step = c.step;
    const Random random(step.seed, RandomPurpose::kDropout, static_cast<uint32_t>(index_),
                        static_cast<uint32_t>(step.step));
    const int64_t size = shape_.size();
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      const auto position = static_cast<uint32_t>(step.batch->first_position + c.tile.begin + n);
      for (int64_t i = 0; i < size; i += 4) {
        const std::array<uint32_t, 4> bits = random.Block(position, static_cast<uint32_t>(i / 4));
        for (int64_t j = i; j < std::min(size, i + 4); ++j) {
          const bool kept = Random::Uniform(bits[j - i]) >= rate_;
          to[n * size + j] = kept ? from[n * size + j] * scale_ : 0.0f;
        }
      }
    }
  }

  const float rate_;
  const float scale_;
  const int index_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildDropout(const BuildContext& c, v1::Layer* layer) {
  const double rate = layer->mutable_dropout()->rate();
  if (!(rate >= 0 && rate < 1)) {
    return FieldError(c, "rate", absl::StrCat("must be within [0, 1), got ", rate));
  }
  return std::make_unique<Dropout>(rate, c.index, c.input());
}

}  // namespace lockstep
