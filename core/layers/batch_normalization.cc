#include <cmath>

#include "core/layers/build.h"
#include "core/layers/row_sums.h"

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
    if (spec_.scale()) {
      list.push_back(Spec("gamma", spec_.gamma_initializer()));
      list.back().regularizer = spec_.gamma_regularizer();
    }
    if (spec_.center()) {
      list.push_back(Spec("beta", spec_.beta_initializer()));
      list.back().regularizer = spec_.beta_regularizer();
    }
    return list;
  }

  std::vector<TensorSpec> buffers() const override {
    return {Spec("moving_mean", spec_.moving_mean_initializer()),
            Spec("moving_variance", spec_.moving_variance_initializer())};
  }

  LayerTraits traits() const override {
    return {.synchronizes = true,
            .backward_reads_x = true,
            .is_inference_affine = true,
            .applies_relu = true};
  }

  // Forward: {mean, variance} in double and the three vectors of the affine map; backward: the
  // four vectors of its gradient in the place of those.
  int64_t saved_bytes(const Capacity&) const override {
    return channels() * static_cast<int64_t>(2 * sizeof(double) + 4 * sizeof(float));
  }
  int64_t forward_sums_bytes(const Capacity& capacity) const override {
    return NodesBytes(capacity.shards) + RowSumsBytes(capacity, shape_.positions(), channels());
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return forward_sums_bytes(capacity);
  }
  int64_t packed_bytes(Pass pass) const override {
    return pass == Pass::kInference ? 3 * channels() * static_cast<int64_t>(sizeof(float)) : 0;
  }

  void Pack(const PackContext& c) const override {
    MakeAffine(c.parameters, c.buffers[0], c.buffers[1], reinterpret_cast<float*>(c.packed));
  }

  void GatherForward(const ForwardContext& c) const override {
    GatherMoments(*c.step.kernels, c.tile, c.x(), shape_.positions(), channels(), Blocks(c));
  }

  void CombineForward(const ForwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t channels = this->channels();
    const int64_t nodes = std::ssize(step.batch->nodes);
    double* moments = reinterpret_cast<double*>(c.sums);
    double* counts = moments + nodes * 2 * channels;
    for (int64_t i = 0; i < nodes; ++i) {
      counts[i] =
          static_cast<double>(step.batch->node_samples(step.batch->nodes[i]) * shape_.positions());
    }
    CombineNodeMoments(step, c.x(), shape_.positions(), channels, Blocks(c), moments);
    step.collective->CombineMoments(channels, {moments, static_cast<size_t>(nodes * 2 * channels)},
                                    {counts, static_cast<size_t>(nodes)});

    const double count = static_cast<double>(step.batch->global_samples * shape_.positions());
    const Saved saved = MakeSaved(c);
    const double momentum = spec_.momentum();
    for (int64_t i = 0; i < channels; ++i) {
      saved.mean[i] = moments[i];
      saved.variance[i] = moments[channels + i] / count;
      c.buffers[0][i] =
          static_cast<float>(momentum * c.buffers[0][i] + (1.0 - momentum) * saved.mean[i]);
      c.buffers[1][i] =
          static_cast<float>(momentum * c.buffers[1][i] + (1.0 - momentum) * saved.variance[i]);
    }
    MakeAffine(c.parameters, saved.mean, saved.variance, saved.vectors);
  }

  void Forward(const ForwardContext& c) const override {
    Normalize(*c.step.kernels, c.tile.samples, c.x(), MakeSaved(c).vectors, c.relu, c.y);
  }

  void Infer(const InferContext& c) const override {
    Normalize(*c.kernels, c.samples, c.x(), reinterpret_cast<const float*>(c.packed), c.relu, c.y);
  }

  void InferenceAffine(std::span<const float* const> parameters,
                       std::span<const float* const> buffers, double* scale,
                       double* offset) const override {
    for (int64_t i = 0; i < channels(); ++i) {
      const double gamma = spec_.scale() ? parameters[0][i] : 1.0;
      const double beta = spec_.center() ? parameters[spec_.scale() ? 1 : 0][i] : 0.0;
      scale[i] = gamma / std::sqrt(buffers[1][i] + spec_.epsilon());
      offset[i] = beta - buffers[0][i] * scale[i];
    }
  }

  void GatherBackward(const BackwardContext& c) const override {
    // The affine map's first vector is the mean, rounded.
    GatherSums(*c.step.kernels, c.tile, c.dy, c.x, MakeSaved(c).vectors, shape_.positions(),
               channels(), Blocks(c));
  }

  // With the sums S1 of dy and S2 of dy * (x - mean) over the N values of a channel, and
  // a = gamma / sqrt(variance + epsilon):
  //   dx = a * (dy - S1 / N - (x - mean) / (variance + epsilon) * S2 / N),
  //   dbeta = S1, dgamma = S2 / sqrt(variance + epsilon).
  void CombineBackward(const BackwardContext& c) const override {
    const StepContext& step = c.step;
    const int64_t channels = this->channels();
    const int64_t nodes = std::ssize(step.batch->nodes);
    const Saved saved = MakeSaved(c);
    float* m = saved.vectors;
    float* k0 = m + channels;
    float* k1 = k0 + channels;
    float* k2 = k1 + channels;

    double* sums = reinterpret_cast<double*>(c.sums);
    int64_t* counts = reinterpret_cast<int64_t*>(sums + nodes * 2 * channels);
    for (int64_t i = 0; i < nodes; ++i) counts[i] = step.batch->node_samples(step.batch->nodes[i]);
    CombineNodeSums(step, c.dy, c.x, m, 2, shape_.positions(), channels, Blocks(c), sums,
                    2 * channels);
    step.collective->CombineSums(2 * channels, {sums, static_cast<size_t>(nodes * 2 * channels)},
                                 {counts, static_cast<size_t>(nodes)});

    const double count = static_cast<double>(step.batch->global_samples * shape_.positions());
    const float* gamma = spec_.scale() ? c.parameters[0] : nullptr;
    for (int64_t i = 0; i < channels; ++i) {
      const double mean = saved.mean[i];
      const double s1 = sums[i];
      // The kernel summed distances to m, the mean rounded to float.
      const double s2 = sums[channels + i] + (m[i] - mean) * s1;
      const double inverse_variance = 1.0 / (saved.variance[i] + spec_.epsilon());
      const double inverse_deviation = 1.0 / std::sqrt(saved.variance[i] + spec_.epsilon());
      const double a = (gamma == nullptr ? 1.0 : gamma[i]) * inverse_deviation;
      const double slope = -a * inverse_variance * s2 / count;
      k1[i] = static_cast<float>(a);
      k2[i] = static_cast<float>(slope);
      k0[i] = static_cast<float>(slope * (m[i] - mean) - a * s1 / count);
      if (spec_.scale()) c.gradients[0][i] = static_cast<float>(s2 * inverse_deviation);
      if (spec_.center()) c.gradients[spec_.scale() ? 1 : 0][i] = static_cast<float>(s1);
    }
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    const int64_t channels = this->channels();
    const float* m = MakeSaved(c).vectors;
    c.step.kernels->normalize_backward(c.dy, c.x, c.tile.samples * shape_.positions(), channels, m,
                                       m + channels, m + 2 * channels, m + 3 * channels, c.dx());
  }

 private:
  struct Saved {
    double* mean;
    double* variance;
    float* vectors;
  };

  Saved MakeSaved(const LayerContext& c) const {
    double* mean = reinterpret_cast<double*>(c.saved);
    double* variance = mean + channels();
    return {mean, variance, reinterpret_cast<float*>(variance + channels())};
  }

  // y = fma(x - m, a, b) with the vectors {m, a, b}
  void Normalize(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                 const float* vectors, bool relu, float* y) const {
    const float* a = vectors + channels();
    kernels.normalize(x, samples * shape_.positions(), channels(), vectors, a, a + channels(), relu,
                      y);
  }

  template <typename Statistic>
  void MakeAffine(std::span<const float* const> parameters, const Statistic* mean,
                  const Statistic* variance, float* vectors) const {
    const int64_t channels = this->channels();
    const float* gamma = spec_.scale() ? parameters[0] : nullptr;
    const float* beta = spec_.center() ? parameters[spec_.scale() ? 1 : 0] : nullptr;
    float* m = vectors;
    float* a = m + channels;
    float* b = a + channels;
    for (int64_t i = 0; i < channels; ++i) {
      const double mu = mean[i];
      const double deviation = std::sqrt(static_cast<double>(variance[i]) + spec_.epsilon());
      m[i] = static_cast<float>(mu);
      a[i] = static_cast<float>((gamma == nullptr ? 1.0 : gamma[i]) / deviation);
      b[i] = static_cast<float>((beta == nullptr ? 0.0 : beta[i]) + (m[i] - mu) * a[i]);
    }
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

  // The sums of the nodes, then those of their blocks.
  int64_t NodesBytes(int64_t nodes) const {
    return nodes * (2 * channels() + 1) * static_cast<int64_t>(sizeof(double));
  }
  std::byte* Blocks(const LayerContext& c) const {
    return c.sums + NodesBytes(std::ssize(c.step.batch->nodes));
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
  absl::Status status = CheckRegularizer(c, "beta_regularizer", spec.beta_regularizer());
  status.Update(CheckRegularizer(c, "gamma_regularizer", spec.gamma_regularizer()));
  if (!status.ok()) return status;
  return std::make_unique<BatchNormalization>(spec, c.input());
}

}  // namespace lockstep
