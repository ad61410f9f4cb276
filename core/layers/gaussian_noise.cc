#include <algorithm>
#include <array>
#include <cmath>

#include "core/layers/build.h"
#include "core/numerics/normal.h"
#include "core/numerics/random.h"

namespace lockstep {
namespace {

// Keeps noise finite.
constexpr double kMaxStddev = 1e30;

// In training y = x + stddev * z, z normal and a function of seed, step, layer, position in the
// global batch and element (core/README.md, rules 7 and 10). The identity in inference.
class GaussianNoise final : public Layer {
 public:
  GaussianNoise(double stddev, std::optional<uint64_t> seed, int index, Shape shape)
      : stddev_(static_cast<float>(stddev)), seed_(seed), index_(index), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  LayerTraits traits() const override { return {.passes_gradient = true}; }

  void Forward(const ForwardContext& c) const override {
    const StepContext& step = c.step;
    const Random random(seed_.value_or(step.seed), RandomPurpose::kNoise,
                        static_cast<uint32_t>(index_), static_cast<uint32_t>(step.step));
    const int64_t size = shape_.size();
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      const auto position = static_cast<uint32_t>(step.batch->first_position + c.tile.begin + n);
      for (int64_t i = 0; i < size; i += 4) {
        const std::array<uint32_t, 4> bits = random.Block(position, static_cast<uint32_t>(i / 4));
        for (int64_t j = i; j < std::min(size, i + 4); ++j) {
          const float z = NormalFromBits(bits[j - i]);
          c.y[n * size + j] = std::fma(z, stddev_, c.x()[n * size + j]);
        }
      }
    }
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr || c.dx() == c.dy) return;
    std::copy_n(c.dy, c.tile.samples * shape_.size(), c.dx());
  }

  void Infer(const InferContext& c) const override {
    std::copy_n(c.x(), c.samples * shape_.size(), c.y);
  }

 private:
  const float stddev_;
  const std::optional<uint64_t> seed_;  // default: the job's
  const int index_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildGaussianNoise(const BuildContext& c, v1::Layer* layer) {
  const v1::GaussianNoise& spec = layer->gaussian_noise();
  if (!(spec.stddev() >= 0 && spec.stddev() <= kMaxStddev)) {
    return FieldError(c, "stddev",
                      absl::StrCat("must be within [0, ", kMaxStddev, "], got ", spec.stddev()));
  }
  return std::make_unique<GaussianNoise>(spec.stddev(), SeedOf(spec), c.index, c.input());
}

}  // namespace lockstep
