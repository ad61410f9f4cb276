#include <algorithm>
#include <cmath>

#include "core/layers/build.h"
#include "core/layers/scale_and_shift.h"
#include "core/parallel/moments.h"

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kDouble = sizeof(double);

// Wu, He, "Group normalization", 2018: over all positions of a sample and the channels of one
// group. The step keeps the normalised values rather than x, and 1 / sqrt(variance + epsilon) of
// each group behind them.
class GroupNormalization final : public Layer {
 public:
  GroupNormalization(const v1::GroupNormalization& spec, Shape shape, int64_t groups)
      : epsilon_(spec.epsilon()),
        shape_(std::move(shape)),
        positions_(shape_.positions()),
        channels_(shape_.channels()),
        groups_(groups),
        end_(spec, {channels_}, positions_, channels_) {}

  Shape output_shape() const override { return shape_; }
  std::vector<TensorSpec> parameters() const override { return end_.parameters(); }
  LayerTraits traits() const override { return {.finish_reads_dy = end_.finish_reads_dy()}; }
  int64_t saved_bytes(const Capacity& capacity) const override {
    return capacity.samples * (shape_.size() + groups_) * kFloat;
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return end_.SumsBytes(capacity);
  }
  int64_t scratch_bytes(int64_t) const override { return channels_ * Scratch::kChannelBytes; }
  int64_t infer_scratch_bytes(int64_t) const override { return channels_ * Scratch::kChannelBytes; }

  void Forward(const ForwardContext& c) const override {
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      const int64_t at = n * shape_.size();
      Normalize(*c.step.kernels, c.x() + at, c.parameters, Scratch(c.scratch, channels_),
                Normalized(c) + at, Inverses(c) + n * groups_, c.y + at);
    }
  }

  void Infer(const InferContext& c) const override {
    for (int64_t n = 0; n < c.samples; ++n) {
      float* y = c.y + n * shape_.size();
      Normalize(*c.kernels, c.x() + n * shape_.size(), c.parameters, Scratch(c.scratch, channels_),
                y, nullptr, y);
    }
  }

  void Backward(const BackwardContext& c) const override {
    end_.Gather(c, Normalized(c));
    if (c.dx() == nullptr) return;
    for (int64_t n = 0; n < c.tile.samples; ++n) {
      const int64_t at = n * shape_.size();
      InputGradient(*c.step.kernels, c.dy + at, Normalized(c) + at, end_.gamma(c.parameters),
                    Inverses(c) + n * groups_, Scratch(c.scratch, channels_), c.dx() + at);
    }
  }

  void FinishBackward(const BackwardContext& c) const override { end_.Combine(c, Normalized(c)); }

 private:
  // For one sample: two sums of a channel, those of one block, and what the kernels take.
  struct Scratch {
    static constexpr int64_t kChannelBytes = 4 * kDouble + 6 * kFloat;

    Scratch(std::byte* memory, int64_t channels)
        : sums{reinterpret_cast<double*>(memory), sums[0] + channels},
          of_block{sums[1] + channels, of_block[0] + channels},
          block{reinterpret_cast<float*>(of_block[1] + channels), block[0] + channels},
          vectors{block[1] + channels, vectors[0] + channels, vectors[1] + channels},
          zeros(vectors[2] + channels) {
      std::fill_n(zeros, channels, 0.0f);
    }

    double* sums[2];
    double* of_block[2];
    float* block[2];
    float* vectors[3];
    float* zeros;
  };

  // Calls body(first position, positions) for every block of a sample.
  template <typename Body>
  void ForBlocks(Body body) const {
    for (int64_t p = 0; p < positions_; p += kernels::kBlockRows) {
      body(p, std::min(kernels::kBlockRows, positions_ - p));
    }
  }

  int64_t group_channels() const { return channels_ / groups_; }
  double group_size() const { return static_cast<double>(positions_ * group_channels()); }

  // sums = {mean, M2} of every channel.
  void ChannelMoments(const kernels::KernelTable& kernels, const float* x,
                      const Scratch& scratch) const {
    double count = 0.0;
    ForBlocks([&](int64_t p, int64_t rows) {
      const float* first = x + p * channels_;
      kernels.block_moments(first, rows, channels_, scratch.block[0], scratch.block[1]);
      const auto n = static_cast<double>(rows);
      for (int64_t i = 0; i < channels_; ++i) {
        const double sum = scratch.block[0][i];
        scratch.of_block[0][i] = first[i] + sum / n;
        scratch.of_block[1][i] = std::max(0.0, scratch.block[1][i] - sum * sum / n);
      }
      MergeMoments(channels_, count, scratch.sums[0], scratch.sums[1], n, scratch.of_block[0],
                   scratch.of_block[1]);
    });
  }

  // inverses[groups] may be null, and normalized may be y.
  void Normalize(const kernels::KernelTable& kernels, const float* x,
                 std::span<const float* const> parameters, const Scratch& scratch,
                 float* normalized, float* inverses, float* y) const {
    ChannelMoments(kernels, x, scratch);
    const auto [m, a, b] = scratch.vectors;
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t begin = g * group_channels();
      const int64_t end = begin + group_channels();
      double mean = 0.0;
      for (int64_t i = begin; i < end; ++i) mean += scratch.sums[0][i];
      mean /= static_cast<double>(group_channels());
      double m2 = 0.0;
      for (int64_t i = begin; i < end; ++i) {
        const double d = scratch.sums[0][i] - mean;
        m2 += scratch.sums[1][i] + (d * d) * static_cast<double>(positions_);
      }
      const double inverse = 1.0 / std::sqrt(m2 / group_size() + epsilon_);
      if (inverses != nullptr) inverses[g] = static_cast<float>(inverse);
      for (int64_t i = begin; i < end; ++i) {
        m[i] = static_cast<float>(mean);
        a[i] = static_cast<float>(inverse);
        b[i] = static_cast<float>((m[i] - mean) * inverse);
      }
    }
    kernels.normalize(x, positions_, channels_, {m, a, b}, /*relu=*/false, normalized);
    std::fill_n(a, channels_, 1.0f);
    const float* gamma = end_.gamma(parameters);
    const float* beta = end_.beta(parameters);
    kernels.normalize(
        normalized, positions_, channels_,
        {scratch.zeros, gamma == nullptr ? a : gamma, beta == nullptr ? scratch.zeros : beta},
        /*relu=*/false, y);
  }

  // With A and B the sums over a group of dy * gamma and of that times `normalized`:
  //   dx = (dy * gamma - A / n - normalized * B / n) / sqrt(variance + epsilon).
  void InputGradient(const kernels::KernelTable& kernels, const float* dy, const float* normalized,
                     const float* gamma, const float* inverses, const Scratch& scratch,
                     float* dx) const {
    std::fill_n(scratch.sums[0], 2 * channels_, 0.0);
    ForBlocks([&](int64_t p, int64_t rows) {
      kernels.block_sums(dy + p * channels_, normalized + p * channels_, {nullptr}, rows, channels_,
                         scratch.block[0], scratch.block[1]);
      for (int64_t i = 0; i < 2 * channels_; ++i) scratch.sums[0][i] += scratch.block[0][i];
    });
    const auto [k0, k1, k2] = scratch.vectors;
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t begin = g * group_channels();
      const int64_t end = begin + group_channels();
      double sums[2] = {0.0, 0.0};
      for (int64_t i = begin; i < end; ++i) {
        const double scale = gamma == nullptr ? 1.0 : gamma[i];
        sums[0] += scale * scratch.sums[0][i];
        sums[1] += scale * scratch.sums[1][i];
      }
      const double inverse = inverses[g];
      for (int64_t i = begin; i < end; ++i) {
        k0[i] = static_cast<float>(-inverse * sums[0] / group_size());
        k1[i] = static_cast<float>((gamma == nullptr ? 1.0 : gamma[i]) * inverse);
        k2[i] = static_cast<float>(-inverse * sums[1] / group_size());
      }
    }
    kernels.normalize_backward(dy, normalized, positions_, channels_, {scratch.zeros}, k0, k1, k2,
                               dx);
  }

  // Of the tile.
  float* Normalized(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved) + c.tile.begin * shape_.size();
  }
  float* Inverses(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved) + c.step.batch->samples * shape_.size() +
           c.tile.begin * groups_;
  }

  const double epsilon_;
  const Shape shape_;
  const int64_t positions_;
  const int64_t channels_;
  const int64_t groups_;
  const ScaleAndShift end_;
};

}  // namespace

LayerOr BuildGroupNormalization(const BuildContext& c, v1::Layer* layer) {
  v1::GroupNormalization& spec = *layer->mutable_group_normalization();
  const int64_t channels = c.input().channels();
  if (!spec.has_groups()) spec.set_groups(32);
  const int64_t groups = spec.groups() == -1 ? channels : spec.groups();
  if (groups < 1 || channels % groups != 0) {
    return FieldError(c, "groups",
                      absl::StrCat("must be -1, or >= 1 and divide the ", channels,
                                   " channels; got ", spec.groups()));
  }
  if (auto s = CheckNormalization(c, &spec); !s.ok()) return s;
  return std::make_unique<GroupNormalization>(spec, c.input(), groups);
}

}  // namespace lockstep
