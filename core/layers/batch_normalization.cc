#include "core/layers/batch_normalization.h"

#include <bit>
#include <cmath>

#include "core/layers/build.h"

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

int64_t SizeBehind(const Shape& shape, int axis) {
  int64_t size = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) size *= shape[i];
  return size;
}

// `matrices` times [rows, columns] -> [columns, rows].
void Transpose(const float* from, int64_t matrices, int64_t rows, int64_t columns, float* to) {
  for (; matrices > 0; --matrices, from += rows * columns, to += rows * columns) {
    for (int64_t i = 0; i < columns; ++i) {
      for (int64_t k = 0; k < rows; ++k) to[i * rows + k] = from[k * columns + i];
    }
  }
}

// One that does not learn (Layer.trainable is false): in training what it is in inference.
class FrozenBatchNormalization final : public BatchNormalization {
 public:
  using BatchNormalization::BatchNormalization;

  LayerTraits traits() const override {
    return {.is_inference_affine = axis_is_last(), .applies_relu = true};
  }

  int64_t scratch_bytes(int64_t tile_samples) const override { return ColumnsBytes(tile_samples); }

  void Forward(const ForwardContext& c) const override {
    Normalize(*c.step.kernels, c.tile.samples, c.x(), reinterpret_cast<const float*>(c.packed),
              c.relu, c.scratch, c.y);
  }

  // dx = dy * a, packed as the map fma(dy - 0, a, 0).
  void Pack(const PackContext& c) const override {
    BatchNormalization::Pack(c);
    if (c.pass != Pass::kBackward) return;
    float* vectors = reinterpret_cast<float*>(c.packed);
    std::fill_n(vectors, channels(), 0.0f);
    std::fill_n(vectors + 2 * channels(), channels(), 0.0f);
  }
  int64_t packed_bytes(Pass) const override {
    return BatchNormalization::packed_bytes(Pass::kInference);
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    Normalize(*c.step.kernels, c.tile.samples, c.dy, reinterpret_cast<const float*>(c.packed),
              /*relu=*/false, c.scratch, c.dx());
  }
};

}  // namespace

BatchNormalization::BatchNormalization(const v1::BatchNormalization& spec, Shape shape, int axis)
    : spec_(spec), shape_(std::move(shape)), axis_(axis), inner_(SizeBehind(shape_, axis)) {}

std::vector<TensorSpec> BatchNormalization::parameters() const {
  std::vector<TensorSpec> list;
  if (spec_.scale()) {
    list.push_back(Channels("gamma", spec_.gamma_initializer()));
    list.back().regularizer = spec_.gamma_regularizer();
  }
  if (spec_.center()) {
    list.push_back(Channels("beta", spec_.beta_initializer()));
    list.back().regularizer = spec_.beta_regularizer();
  }
  return list;
}

std::vector<TensorSpec> BatchNormalization::buffers() const {
  std::vector<TensorSpec> list = {Channels("moving_mean", spec_.moving_mean_initializer()),
                                  Channels("moving_variance", spec_.moving_variance_initializer())};
  if (spec_.cumulative_average()) {
    list.push_back(
        {.name = "num_batches_tracked", .shape = {1}, .initializer = ZerosInitializer()});
  }
  return list;
}

TensorSpec BatchNormalization::Channels(std::string name,
                                        const v1::Initializer& initializer) const {
  return {.name = std::move(name),
          .shape = {channels()},
          .initializer = initializer,
          .fan_in = channels(),
          .fan_out = channels(),
          .gradient = GradientKind::kGlobal};
}

int64_t BatchNormalization::packed_bytes(Pass pass) const {
  return pass == Pass::kInference ? 3 * channels() * kFloat : 0;
}

void BatchNormalization::Pack(const PackContext& c) const {
  MakeAffine(c.parameters, c.buffers[0], c.buffers[1], reinterpret_cast<float*>(c.packed));
}

void BatchNormalization::Infer(const InferContext& c) const {
  Normalize(*c.kernels, c.samples, c.x(), reinterpret_cast<const float*>(c.packed), c.relu,
            c.scratch, c.y);
}

void BatchNormalization::InferenceAffine(std::span<const float* const> parameters,
                                         std::span<const float* const> buffers, double* scale,
                                         double* offset) const {
  for (int64_t i = 0; i < channels(); ++i) {
    const double gamma = spec_.scale() ? parameters[0][i] : 1.0;
    const double beta = spec_.center() ? parameters[spec_.scale() ? 1 : 0][i] : 0.0;
    scale[i] = gamma / std::sqrt(buffers[1][i] + spec_.epsilon());
    offset[i] = beta - buffers[0][i] * scale[i];
  }
}

const float* BatchNormalization::Columns(const float* x, int64_t samples, std::byte* memory) const {
  if (inner_ == 1) return x;
  float* columns = reinterpret_cast<float*>(memory);
  Transpose(x, samples * positions() / inner_, channels(), inner_, columns);
  return columns;
}

void BatchNormalization::FromColumns(const float* columns, int64_t samples, float* x) const {
  if (columns != x) Transpose(columns, samples * positions() / inner_, inner_, channels(), x);
}

void BatchNormalization::Normalize(const kernels::KernelTable& kernels, int64_t samples,
                                   const float* x, const float* vectors, bool relu,
                                   std::byte* memory, float* y) const {
  const float* a = vectors + channels();
  float* columns = inner_ == 1 ? y : reinterpret_cast<float*>(memory);
  kernels.normalize(Columns(x, samples, memory), samples * positions(), channels(),
                    {vectors, a, a + channels()}, relu, columns);
  FromColumns(columns, samples, y);
}

template <typename Statistic>
void BatchNormalization::MakeAffine(std::span<const float* const> parameters, const Statistic* mean,
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
template void BatchNormalization::MakeAffine(std::span<const float* const>, const float*,
                                             const float*, float*) const;
template void BatchNormalization::MakeAffine(std::span<const float* const>, const double*,
                                             const double*, float*) const;

namespace {

// What the convention's name stands for, and momentum or the cumulative average.
absl::Status CheckConvention(const BuildContext& c, v1::BatchNormalization& spec) {
  if (spec.convention().empty()) spec.set_convention("keras");
  const bool pytorch = spec.convention() == "pytorch";
  if (!pytorch && spec.convention() != "keras") {
    return FieldError(c, "convention",
                      absl::StrCat("must be keras or pytorch; got \"", spec.convention(), "\""));
  }
  if (!spec.has_epsilon()) spec.set_epsilon(pytorch ? 1e-5 : 1e-3);
  if (!(spec.epsilon() > 0) || !std::isfinite(spec.epsilon())) {
    return FieldError(c, "epsilon", absl::StrCat("must be > 0 and finite, got ", spec.epsilon()));
  }
  if (spec.cumulative_average()) {
    if (!spec.has_momentum()) return absl::OkStatus();
    return FieldError(c, "momentum",
                      absl::StrCat("means nothing with cumulative_average, got ", spec.momentum()));
  }
  if (!spec.has_momentum()) spec.set_momentum(pytorch ? 0.9 : 0.99);
  if (!(spec.momentum() >= 0 && spec.momentum() <= 1)) {
    return FieldError(
        c, "momentum",
        absl::StrCat("must be within [0, 1] (it weighs the old value, as in Keras), got ",
                     spec.momentum()));
  }
  return absl::OkStatus();
}

// Of the sample, counted from 0.
absl::StatusOr<int> CheckAxis(const BuildContext& c, v1::BatchNormalization& spec) {
  if (!spec.has_axis()) spec.set_axis(-1);
  const int rank = c.input().rank();
  if (spec.axis() >= 1 && spec.axis() <= rank) return static_cast<int>(spec.axis()) - 1;
  if (spec.axis() >= -rank && spec.axis() <= -1) return static_cast<int>(spec.axis()) + rank;
  return FieldError(c, "axis",
                    absl::StrCat("must be within [1, ", rank, "] or [-", rank,
                                 ", -1] (0 is the batch), got ", spec.axis()));
}

}  // namespace

LayerOr BuildBatchNormalization(const BuildContext& c, v1::Layer* layer) {
  v1::BatchNormalization& spec = *layer->mutable_batch_normalization();
  if (auto s = CheckConvention(c, spec); !s.ok()) return s;
  const auto axis = CheckAxis(c, spec);
  if (!axis.ok()) return axis.status();
  if (spec.group_shards() < 0 || spec.group_shards() > 256 ||
      (spec.group_shards() > 0 &&
       !std::has_single_bit(static_cast<uint64_t>(spec.group_shards())))) {
    return FieldError(
        c, "group_shards",
        absl::StrCat("must be 0 or a power of two up to 256, got ", spec.group_shards()));
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
  if (layer->has_trainable() && !layer->trainable()) {
    return std::make_unique<FrozenBatchNormalization>(spec, c.input(), *axis);
  }
  return MakeTrainedBatchNormalization(spec, c.input(), *axis);
}

}  // namespace lockstep
