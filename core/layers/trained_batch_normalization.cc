#include <algorithm>
#include <cmath>

#include "core/layers/batch_normalization.h"
#include "core/layers/row_sums.h"
#include "core/layers/shard_groups.h"

namespace lockstep {
namespace {

// The most batches that a float counts one by one.
constexpr double kMostBatches = 1 << 24;

// Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1, over the global batch, or over
// groups of its shards (Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017,
// algorithm 1): statistics and backward sums are combined over all shards of a group, and over all
// workers, before anything uses them. Arithmetic: core/README.md, rules 2, 5 and 6.
class TrainedBatchNormalization final : public BatchNormalization {
 public:
  using BatchNormalization::BatchNormalization;

  LayerTraits traits() const override {
    return {.synchronizes = true,
            .follows_statistics = true,
            .backward_reads_x = true,
            .cheap_forward = true,
            // Single rows are summed when the batch is whole. An image whose channels are not its
            // last axis may be one.
            .finish_reads_dy = positions() == 1 && shape_.positions() > 1,
            .is_inference_affine = axis_is_last(),
            .applies_relu = true,
            .reverts_relu = true};
  }

  int64_t saved_bytes(const Capacity& capacity) const override {
    return Groups(capacity) * SavedGroupBytes();
  }
  // The sums of the parts of the shard tree, then those of their blocks.
  int64_t forward_sums_bytes(const Capacity& capacity) const override {
    return PartsBytes(capacity.shards) + RowSumsBytes(capacity, positions(), channels());
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return forward_sums_bytes(capacity);
  }
  // x and dy with the channels last.
  int64_t scratch_bytes(int64_t tile_samples) const override {
    return 2 * ColumnsBytes(tile_samples);
  }

  void GatherForward(const ForwardContext& c) const override {
    if (positions() == 1 || c.step.moving_statistics) return;
    GatherMoments(*c.step.kernels, c.tile, Columns(c.x(), c.tile.samples, c.scratch), positions(),
                  channels(), Blocks(c));
  }

  void CombineForward(const ForwardContext& c) const override {
    const ShardGroups groups(c.step, spec_.group_shards());
    if (c.step.moving_statistics) {
      for (int g = 0; g < groups.groups(); ++g) {
        MakeAffine(c.parameters, c.buffers[0], c.buffers[1], MakeSaved(c, g).vectors);
      }
      return;
    }
    const std::span<const ShardNode> parts = groups.parts();
    const int64_t channels = this->channels();
    double* moments = reinterpret_cast<double*>(c.sums);
    const size_t row = 2 * channels;
    double* counts = moments + parts.size() * row;
    for (size_t i = 0; i < parts.size(); ++i) {
      counts[i] = static_cast<double>(c.step.batch->node_samples(parts[i]) * positions());
    }
    CombinePartMoments(c.step, parts, c.x(), positions(), channels, inner(), Blocks(c), moments);
    c.step.collective->CombineMoments(spec_.group_shards(), channels, {moments, parts.size() * row},
                                      {counts, parts.size()});

    // A group's statistics are kept; what is left in its row is its part of the batch's, in which
    // the variance is the convention's.
    const double total = static_cast<double>(c.step.batch->global_samples * positions());
    for (int g = 0; g < groups.groups(); ++g) {
      const double count = counts[groups.first_part(g)];
      const double weight = count / total;
      const double degrees = spec_.convention() == "pytorch" ? std::max(1.0, count - 1) : count;
      double* mean = moments + groups.first_part(g) * row;
      double* m2 = mean + channels;
      const Saved saved = MakeSaved(c, g);
      *saved.count = count;
      for (int64_t i = 0; i < channels; ++i) {
        saved.mean[i] = count == 0 ? 0.0 : mean[i];
        saved.variance[i] = count == 0 ? 0.0 : m2[i] / count;
        mean[i] = weight * saved.mean[i];
        m2[i] = count == 0 ? 0.0 : weight * (m2[i] / degrees);
      }
      MakeAffine(c.parameters, saved.mean, saved.variance, saved.vectors);
    }
    groups.Sum(2 * channels, moments);
    const double momentum = Momentum(c);
    for (int64_t i = 0; i < 2 * channels; ++i) {
      float& moving = c.buffers[i / channels][i % channels];
      moving = static_cast<float>(momentum * moving + (1.0 - momentum) * moments[i]);
    }
  }

  BatchStatistics CurrentStatistics(const ForwardContext& c) const override {
    const std::span<const double> moments(reinterpret_cast<const double*>(c.sums), 2 * channels());
    return {moments.first(channels()), moments.subspan(channels()), spec_.epsilon()};
  }

  void Forward(const ForwardContext& c) const override {
    const ShardGroups groups(c.step, spec_.group_shards());
    groups.ForTile(c.tile, [&](int group, int64_t begin, int64_t samples) {
      const int64_t skipped = (begin - c.tile.begin) * shape_.size();
      Normalize(*c.step.kernels, samples, c.x() + skipped, MakeSaved(c, group).vectors, c.relu,
                c.scratch, c.y + skipped);
    });
  }

  void GatherBackward(const BackwardContext& c) const override {
    if (positions() == 1) return;
    const ShardGroups groups(c.step, spec_.group_shards());
    groups.ForTile(c.tile, [&](int group, int64_t begin, int64_t samples) {
      const Tile tile = {begin, samples, c.tile.shard};
      const auto [dy, x] = BackwardColumns(c, tile);
      GatherSums(*c.step.kernels, tile, dy, x, Map(c, group), positions(), channels(), Blocks(c));
    });
  }

  // With the sums S1 of dy and S2 of dy * (x - mean) over the N values of a channel in a group, and
  // a = gamma / sqrt(variance + epsilon):
  //   dx = a * (dy - S1 / N - (x - mean) / (variance + epsilon) * S2 / N);
  // over all groups,
  //   dbeta = sum of S1, dgamma = sum of S2 / sqrt(variance + epsilon).
  void CombineBackward(const BackwardContext& c) const override {
    const ShardGroups groups(c.step, spec_.group_shards());
    const std::span<const ShardNode> parts = groups.parts();
    const int64_t channels = this->channels();
    double* sums = reinterpret_cast<double*>(c.sums);
    const size_t row = 2 * channels;
    int64_t* counts = reinterpret_cast<int64_t*>(sums + parts.size() * row);
    for (size_t i = 0; i < parts.size(); ++i) counts[i] = c.step.batch->node_samples(parts[i]);
    CombinePartSums(
        c.step, parts, c.dy, c.x,
        [&](int64_t shard) { return Map(c, groups.group(static_cast<int>(shard))); }, positions(),
        channels, Blocks(c), sums);
    c.step.collective->CombineGroupSums(spec_.group_shards(), 2 * channels,
                                        {sums, parts.size() * row}, {counts, parts.size()});

    const float* gamma = spec_.scale() ? c.parameters[0] : nullptr;
    for (int g = 0; g < groups.groups(); ++g) {
      const Saved saved = MakeSaved(c, g);
      const double count = *saved.count;
      const float* m = saved.vectors;
      float* k0 = saved.gradient_vectors(channels);
      float* k1 = k0 + channels;
      float* k2 = k1 + channels;
      double* sum_dy = sums + groups.first_part(g) * row;
      double* sum_dy_x = sum_dy + channels;
      if (count == 0) std::fill_n(sum_dy, row, 0.0);
      for (int64_t i = 0; count > 0 && i < channels; ++i) {
        const double mean = saved.mean[i];
        const double s1 = sum_dy[i];
        // The kernel summed distances to m, the mean rounded to float.
        const double s2 = sum_dy_x[i] + (m[i] - mean) * s1;
        const double inverse_variance = 1.0 / (saved.variance[i] + spec_.epsilon());
        const double inverse_deviation = 1.0 / std::sqrt(saved.variance[i] + spec_.epsilon());
        const double a = (gamma == nullptr ? 1.0 : gamma[i]) * inverse_deviation;
        const double slope = -a * inverse_variance * s2 / count;
        k1[i] = static_cast<float>(a);
        k2[i] = static_cast<float>(slope);
        k0[i] = static_cast<float>(slope * (m[i] - mean) - a * s1 / count);
        sum_dy_x[i] = s2 * inverse_deviation;
      }
    }
    groups.Sum(2 * channels, sums);
    const auto store = [&](float* gradient, const double* from) {
      std::transform(from, from + channels, gradient,
                     [](double v) { return static_cast<float>(v); });
    };
    if (spec_.scale()) store(c.gradients[0], sums + channels);
    if (spec_.center()) store(c.gradients[spec_.scale() ? 1 : 0], sums);
  }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    const ShardGroups groups(c.step, spec_.group_shards());
    groups.ForTile(c.tile, [&](int group, int64_t begin, int64_t samples) {
      const auto [dy, x] = BackwardColumns(c, {begin, samples, c.tile.shard});
      float* dx = c.dx() + (begin - c.tile.begin) * shape_.size();
      float* columns = inner() == 1 ? dx : reinterpret_cast<float*>(c.scratch);
      const int64_t n = channels();
      const float* k0 = MakeSaved(c, group).gradient_vectors(n);
      c.step.kernels->normalize_backward(dy, x, samples * positions(), n, Map(c, group), k0, k0 + n,
                                         k0 + 2 * n, columns);
      FromColumns(columns, samples, dx);
    });
  }

 private:
  // Of a group of shards: {mean, variance} in double, the three vectors of the affine map, then
  // those of its gradient.
  struct Saved {
    double* count;
    double* mean;
    double* variance;
    float* vectors;

    float* gradient_vectors(int64_t channels) const { return vectors + 3 * channels; }
  };
  int64_t SavedGroupBytes() const {
    return (channels() * static_cast<int64_t>(2 * sizeof(double) + 6 * sizeof(float)) +
            static_cast<int64_t>(sizeof(double)));
  }
  Saved MakeSaved(const LayerContext& c, int group) const {
    double* mean = reinterpret_cast<double*>(c.saved + group * SavedGroupBytes());
    double* variance = mean + channels();
    float* vectors = reinterpret_cast<float*>(variance + channels());
    return {reinterpret_cast<double*>(vectors + 6 * channels()), mean, variance, vectors};
  }

  // For the backward kernels: with a and b only if dy is yet to go through the ReLU.
  kernels::ChannelMap Map(const BackwardContext& c, int group) const {
    const float* m = MakeSaved(c, group).vectors;
    if (!c.relu) return {m};
    return {m, m + channels(), m + 2 * channels()};
  }

  int64_t Groups(const Capacity& capacity) const {
    return spec_.group_shards() == 0 ? 1 : capacity.shards;
  }

  // The weight of the old moving values, and one more batch counted.
  double Momentum(const ForwardContext& c) const {
    if (!spec_.cumulative_average()) return spec_.momentum();
    const double batches = std::min(kMostBatches, c.buffers[2][0] + 1.0);
    c.buffers[2][0] = static_cast<float>(batches);
    return (batches - 1) / batches;
  }

  // dy and x of some samples of the tile, with the channels last.
  std::pair<const float*, const float*> BackwardColumns(const BackwardContext& c,
                                                        const Tile& tile) const {
    const int64_t skipped = (tile.begin - c.tile.begin) * shape_.size();
    return {Columns(c.dy + skipped, tile.samples, c.scratch),
            Columns(c.x + skipped, tile.samples, c.scratch + ColumnsBytes(tile.samples))};
  }

  int64_t PartsBytes(int64_t parts) const {
    return parts * (2 * channels() + 1) * static_cast<int64_t>(sizeof(double));
  }
  std::byte* Blocks(const LayerContext& c) const {
    return c.sums + PartsBytes(c.step.batch->shards());
  }
};

}  // namespace

std::unique_ptr<const Layer> MakeTrainedBatchNormalization(const v1::BatchNormalization& spec,
                                                           const Shape& shape, int axis) {
  return std::make_unique<TrainedBatchNormalization>(spec, shape, axis);
}

}  // namespace lockstep
