#include <algorithm>
#include <cmath>
#include <limits>

#include "core/layers/build.h"

namespace lockstep {
namespace {

constexpr double kLeastDeviation = 1e-7;  // Keras' epsilon

// y = (x - mean) / deviation a channel, by a mean and variance that training does not change
// (core/README.md, rule 22).
class Normalization final : public Layer {
 public:
  Normalization(const v1::Normalization& spec, Shape shape)
      : mean_(spec.mean().begin(), spec.mean().end()),
        variance_(spec.variance().begin(), spec.variance().end()),
        shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }
  LayerTraits traits() const override {
    return {.is_inference_affine = true, .applies_relu = true};
  }
  std::vector<TensorSpec> buffers() const override {
    return {{.name = "mean",
             .shape = {shape_.channels()},
             .initializer = ZerosInitializer(),
             .values = mean_},
            {.name = "variance",
             .shape = {shape_.channels()},
             .initializer = OnesInitializer(),
             .values = variance_}};
  }

  // {m, a, 0}; backward {0, a, 0}, since dx = dy * a.
  int64_t packed_bytes(Pass) const override {
    return 3 * shape_.channels() * static_cast<int64_t>(sizeof(float));
  }
  void Pack(const PackContext& c) const override {
    float* vectors = reinterpret_cast<float*>(c.packed);
    const int64_t channels = shape_.channels();
    std::fill_n(vectors, 3 * channels, 0.0f);
    for (int64_t i = 0; i < channels; ++i) {
      if (c.pass != Pass::kBackward) vectors[i] = c.buffers[0][i];
      vectors[channels + i] = static_cast<float>(Scale(c.buffers[1][i]));
    }
  }

  void Forward(const ForwardContext& c) const override {
    Apply(*c.step.kernels, c.tile.samples, c.x(), c.packed, c.relu, c.y);
  }

  void Infer(const InferContext& c) const override {
    Apply(*c.kernels, c.samples, c.x(), c.packed, c.relu, c.y);
  }

  void InferenceAffine(std::span<const float* const>, std::span<const float* const> buffers,
                       double* scale, double* offset) const override {
    for (int64_t i = 0; i < shape_.channels(); ++i) {
      scale[i] = Scale(buffers[1][i]);
      offset[i] = -buffers[0][i] * scale[i];
    }
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    Apply(*c.step.kernels, c.tile.samples, c.dy, c.packed, /*relu=*/false, c.dx());
  }

 private:
  static double Scale(float variance) {
    return 1.0 / std::max(std::sqrt(static_cast<double>(variance)), kLeastDeviation);
  }

  void Apply(const kernels::KernelTable& kernels, int64_t samples, const float* x,
             const std::byte* packed, bool relu, float* y) const {
    const float* m = reinterpret_cast<const float*>(packed);
    const int64_t channels = shape_.channels();
    kernels.normalize(x, samples * shape_.positions(), channels,
                      {m, m + channels, m + 2 * channels}, relu, y);
  }

  const std::vector<float> mean_;
  const std::vector<float> variance_;
  const Shape shape_;
};

absl::Status CheckValues(const BuildContext& c, absl::string_view field,
                         const google::protobuf::RepeatedField<float>& values, float least) {
  const int64_t channels = c.input().channels();
  if (values.size() != 1 && values.size() != channels) {
    return FieldError(c, field,
                      absl::StrCat("must have one number, or one for each of the ", channels,
                                   " channels; got ", values.size()));
  }
  for (float value : values) {
    if (std::isfinite(value) && value >= least) continue;
    return FieldError(
        c, field, absl::StrCat("must be ", least == 0 ? ">= 0 and " : "", "finite, got ", value));
  }
  return absl::OkStatus();
}

}  // namespace

LayerOr BuildNormalization(const BuildContext& c, v1::Layer* layer) {
  const v1::Normalization& spec = layer->normalization();
  if (spec.mean().empty() && spec.variance().empty()) {
    if (!c.reads_input) {
      return absl::InvalidArgumentError(absl::StrCat(
          c.path, ": needs mean and variance, because \"", c.name,
          "\" reads no input, directly or through rescaling, whose statistics it could take"));
    }
  } else {
    absl::Status status = CheckValues(c, "mean", spec.mean(), std::numeric_limits<float>::lowest());
    status.Update(CheckValues(c, "variance", spec.variance(), 0.0f));
    if (!status.ok()) return status;
  }
  return std::make_unique<Normalization>(spec, c.input());
}

}  // namespace lockstep
