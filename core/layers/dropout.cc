#include <algorithm>
#include <array>
#include <optional>

#include "core/layers/build.h"
#include "core/numerics/random.h"

namespace lockstep {
namespace {

// In training y = x * mask, mask = 1 / (1 - rate) where the random number is >= rate, else 0. There
// is one number a channel, for all positions of a sample: Dropout takes a sample for one position.
// The mask is a function of seed, step, layer, position in the global batch and channel, so
// Backward computes it again instead of keeping it. The identity in inference.
class Dropout final : public Layer {
 public:
  Dropout(double rate, std::optional<uint64_t> seed, int index, int64_t positions, Shape shape)
      : rate_(static_cast<float>(rate)),
        scale_(static_cast<float>(1.0 / (1.0 - rate))),
        seed_(seed),
        index_(index),
        positions_(positions),
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
    const Random random(seed_.value_or(step.seed), RandomPurpose::kDropout,
                        static_cast<uint32_t>(index_), static_cast<uint32_t>(step.step));
    const int64_t size = shape_.size();
    const int64_t channels = size / positions_;
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      const auto position = static_cast<uint32_t>(step.batch->first_position + c.tile.begin + n);
      for (int64_t i = 0; i < channels; i += 4) {
        const std::array<uint32_t, 4> bits = random.Block(position, static_cast<uint32_t>(i / 4));
        for (int64_t j = i; j < std::min(channels, i + 4); ++j) {
          const bool kept = Random::Uniform(bits[j - i]) >= rate_;
          for (int64_t k = n * size + j; k < (n + 1) * size; k += channels) {
            to[k] = kept ? from[k] * scale_ : 0.0f;
          }
        }
      }
    }
  }

  const float rate_;
  const float scale_;
  const std::optional<uint64_t> seed_;  // default: the job's
  const int index_;
  const int64_t positions_;
  const Shape shape_;
};

template <typename Spec>
LayerOr Make(const BuildContext& c, const Spec& spec, int64_t positions) {
  if (!(spec.rate() >= 0 && spec.rate() < 1)) {
    return FieldError(c, "rate", absl::StrCat("must be within [0, 1), got ", spec.rate()));
  }
  return std::make_unique<Dropout>(spec.rate(), SeedOf(spec), c.index, positions, c.input());
}

}  // namespace

LayerOr BuildDropout(const BuildContext& c, v1::Layer* layer) {
  return Make(c, layer->dropout(), /*positions=*/1);
}

LayerOr BuildSpatialDropout2D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  return Make(c, layer->spatial_dropout2d(), c.input().positions());
}

}  // namespace lockstep
