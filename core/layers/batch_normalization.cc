#include <cmath>

#include "core/layers/build.h"
#include "core/layers/row_sums.h"
#include "core/layers/rows.h"

namespace lockstep {
namespace {

// Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1, over the global batch: statistics
// and backward sums are combined over all shards, and over all workers, before anything uses them.
// Conventions: proto/lockstep/v1/model.proto. Arithmetic: core/README.md, rules 2, 5 and 6.
class BatchNormalization final : public Layer {
 public:
  BatchNormalization(const v1::BatchNormalization& spec, Shape shape)
      : spec_(spec), shape_(std::move(shape)) {}

  Shape output_shape() const override { return shape_; }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list;
    if (spec_.scale()) list.push_back(Spec("gamma", spec_.gamma_initializer()));
    if (spec_.center()) list.push_back(Spec("beta", spec_.beta_initializer()));
    return list;
  }

  std::vector<TensorSpec> buffers() const override {
    return {Spec("moving_mean", spec_.moving_mean_initializer()),
            Spec("moving_variance", spec_.moving_variance_initializer())};
  }

  int64_t saved_bytes(const Capacity&) const override {
    return 2 * channels() * static_cast<int64_t>(sizeof(double));
  }

  int64_t scratch_bytes(const Capacity& capacity) const override {
    return VectorsBytes() + NodesBytes(capacity) +
           RowSumsScratchBytes(capacity, shape_.positions(), channels());
  }

  int64_t infer_scratch_bytes() const override { return VectorsBytes(); }

  void Forward(const ForwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t channels = this->channels();
    const int64_t nodes = std::ssize(step.batch->nodes);
    double* moments = reinterpret_cast<double*>(c.scratch + VectorsBytes());
    double* counts = moments + nodes * 2 * channels;
    std::byte* partial = reinterpret_cast<std::byte*>(counts + nodes);
    for (int64_t i = 0; i < nodes; ++i) {
      counts[i] =
          static_cast<double>(step.batch->node_samples(step.batch->nodes[i]) * shape_.positions());
    }
    NodeMoments(step, c.x, shape_.positions(), channels, partial, moments);
    step.collective->CombineMoments(channels, {moments, static_cast<size_t>(nodes * 2 * channels)},
                                    {counts, static_cast<size_t>(nodes)});

    const double count = static_cast<double>(step.batch->global_samples * shape_.positions());
    double* mean = reinterpret_cast<double*>(c.saved);
    double* variance = mean + channels;
    const double momentum = spec_.momentum();
    for (int64_t i = 0; i < channels; ++i) {
      mean[i] = moments[i];
      variance[i] = moments[channels + i] / count;
      c.buffers[0][i] = static_cast<float>(momentum * c.buffers[0][i] + (1.0 - momentum) * mean[i]);
      c.buffers[1][i] =
          static_cast<float>(momentum * c.buffers[1][i] + (1.0 - momentum) * variance[i]);
    }
    const Affine affine = MakeAffine(c.scratch, c.parameters, mean, variance);
    ParallelRows(*step.pool, step.batch->samples * shape_.positions(), 64,
                 [&](int64_t begin, int64_t end) {
                   step.kernels->normalize(c.x + begin * channels, end - begin, channels, affine.m,
                                           affine.a, affine.b, c.y + begin * channels);
                 });
  }

  void Infer(const InferContext& c) const override {
    const Affine affine = MakeAffine(c.scratch, c.parameters, c.buffers[0], c.buffers[1]);
    c.kernels->normalize(c.x, c.samples * shape_.positions(), channels(), affine.m, affine.a,
                         affine.b, c.y);
  }

  // With the sums S1 of dy and S2 of dy * (x - mean) over the N values of a channel, and
  // a = gamma / sqrt(variance + epsilon):
  //   dx = a * (dy - S1 / N - (x - mean) / (variance + epsilon) * S2 / N),
  //   dbeta = S1, dgamma = S2 / sqrt(variance + epsilon).
  void Backward(const BackwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t channels = this->channels();
    const int64_t nodes = std::ssize(step.batch->nodes);
    const double* mean = reinterpret_cast<const double*>(c.saved);
    const double* variance = mean + channels;
    float* m = reinterpret_cast<float*>(c.scratch);
    float* k0 = m + channels;
    float* k1 = k0 + channels;
    float* k2 = k1 + channels;
    for (int64_t i = 0; i < channels; ++i) m[i] = static_cast<float>(mean[i]);

    double* sums = reinterpret_cast<double*>(c.scratch + VectorsBytes());
    int64_t* counts = reinterpret_cast<int64_t*>(sums + nodes * 2 * channels);
    std::byte* partial = reinterpret_cast<std::byte*>(counts + nodes);
    for (int64_t i = 0; i < nodes; ++i) counts[i] = step.batch->node_samples(step.batch->nodes[i]);
    NodeSums(step, c.dy, c.x, m, shape_.positions(), channels, partial, sums, 2 * channels);
    step.collective->CombineSums(2 * channels, {sums, static_cast<size_t>(nodes * 2 * channels)},
                                 {counts, static_cast<size_t>(nodes)});

    const double count = static_cast<double>(step.batch->global_samples * shape_.positions());
    const float* gamma = spec_.scale() ? c.parameters[0] : nullptr;
    for (int64_t i = 0; i < channels; ++i) {
      const double s1 = sums[i];
      // The kernel summed distances to m, the mean rounded to float.
      const double s2 = sums[channels + i] + (m[i] - mean[i]) * s1;
      const double inverse_variance = 1.0 / (variance[i] + spec_.epsilon());
      const double inverse_deviation = 1.0 / std::sqrt(variance[i] + spec_.epsilon());
      const double a = (gamma == nullptr ? 1.0 : gamma[i]) * inverse_deviation;
      const double slope = -a * inverse_variance * s2 / count;
      k1[i] = static_cast<float>(a);
      k2[i] = static_cast<float>(slope);
      k0[i] = static_cast<float>(slope * (m[i] - mean[i]) - a * s1 / count);
      if (spec_.scale()) c.gradients[0][i] = static_cast<float>(s2 * inverse_deviation);
      if (spec_.center()) c.gradients[spec_.scale() ? 1 : 0][i] = static_cast<float>(s1);
    }
    if (c.dx == nullptr) return;
    ParallelRows(*step.pool, step.batch->samples * shape_.positions(), 64,
                 [&](int64_t begin, int64_t end) {
                   step.kernels->normalize_backward(c.dy + begin * channels, c.x + begin * channels,
                                                    end - begin, channels, m, k0, k1, k2,
                                                    c.dx + begin * channels);
                 });
  }

 private:
  // y = fma(x - m, a, b)
  struct Affine {
    const float* m;
    const float* a;
    const float* b;
  };

  template <typename Statistic>
  Affine MakeAffine(std::byte* scratch, std::span<const float* const> parameters,
                    const Statistic* mean, const Statistic* variance) const {
    const int64_t channels = this->channels();
    const float* gamma = spec_.scale() ? parameters[0] : nullptr;
    const float* beta = spec_.center() ? parameters[spec_.scale() ? 1 : 0] : nullptr;
    float* m = reinterpret_cast<float*>(scratch);
    float* a = m + channels;
    float* b = a + channels;
    for (int64_t i = 0; i < channels; ++i) {
      const double mu = mean[i];
      const double deviation = std::sqrt(static_cast<double>(variance[i]) + spec_.epsilon());
      m[i] = static_cast<float>(mu);
      a[i] = static_cast<float>((gamma == nullptr ? 1.0 : gamma[i]) / deviation);
      b[i] = static_cast<float>((beta == nullptr ? 0.0 : beta[i]) + (m[i] - mu) * a[i]);
    }
    return {m, a, b};
  }

  TensorSpec Spec(std::string name, const v1::Initializer& initializer) const {
    return {.name = std::move(name),
            .shape = {channels()},
            .initializer = initializer,
            .fan_in = channels(),
            .fan_out = channels(),
            .gradient = GradientKind::kGlobal};
  }

  int64_t channels() const { return shape_.channels(); }
  // Four vectors of floats a channel.
  int64_t VectorsBytes() const {
    return (4 * channels() * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
  }
  int64_t NodesBytes(const Capacity& capacity) const {
    return capacity.shards * (2 * channels() + 1) * static_cast<int64_t>(sizeof(double));
  }

  const v1::BatchNormalization spec_;
  const Shape shape_;
};

}  // namespace

LayerOr BuildBatchNormalization(const BuildContext& c, v1::Layer* layer) {
  v1::BatchNormalization& spec = *layer->mutable_batch_normalization();
  if (!spec.has_momentum()) spec.set_momentum(0.99);
  if (!(spec.momentum() >= 0 && spec.momentum() <= 1)) {
    return FieldError(
        c, "momentum",
        absl::StrCat("must be within [0, 1] (it weighs the old value, as in Keras), got ",
                     spec.momentum()));
  }
  if (!spec.has_epsilon()) spec.set_epsilon(1e-3);
  if (!(spec.epsilon() > 0) || !std::isfinite(spec.epsilon())) {
    return FieldError(c, "epsilon", absl::StrCat("must be > 0 and finite, got ", spec.epsilon()));
  }
  if (!spec.has_center()) spec.set_center(true);
  if (!spec.has_scale()) spec.set_scale(true);
  const struct {
    const char* field;
    v1::Initializer fallback;
    v1::Initializer* initializer;
  } initializers[] = {
      {"beta_initializer", ZerosInitializer(), spec.mutable_beta_initializer()},
      {"gamma_initializer", OnesInitializer(), spec.mutable_gamma_initializer()},
      {"moving_mean_initializer", ZerosInitializer(), spec.mutable_moving_mean_initializer()},
      {"moving_variance_initializer", OnesInitializer(),
       spec.mutable_moving_variance_initializer()},
  };
  for (const auto& i : initializers) {
    if (auto s = CheckInitializer(c, i.field, i.fallback, i.initializer); !s.ok()) return s;
  }
  return std::make_unique<BatchNormalization>(spec, c.input);
}

}  // namespace lockstep
