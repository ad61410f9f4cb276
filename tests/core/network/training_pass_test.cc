// The shapes that several workers will need: a member of a collective that holds its shards as
// several nodes of the tree, instead of the root, gets the same bits.

#include "core/network/training_pass.h"

#include <gtest/gtest.h>

#include <random>

#include "core/parallel/moments.h"
#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

// All shards in one process, but as the nodes that it is given: combines them over the rest of the
// tree as members that exchange nodes would.
class NodesCollective final : public Collective {
 public:
  explicit NodesCollective(std::vector<ShardNode> nodes) : nodes_(std::move(nodes)) {}

  std::span<const ShardNode> local_nodes() const override { return nodes_; }
  absl::Status status() const override { return absl::OkStatus(); }

  void CombineMoments(int64_t channels, std::span<double> moments,
                      std::span<double> counts) override {
    Combine([&](size_t a, size_t b) {
      double* left = moments.data() + a * 2 * channels;
      const double* right = moments.data() + b * 2 * channels;
      MergeMoments(channels, counts[a], left, left + channels, counts[b], right, right + channels);
    });
  }
  void CombineSums(int64_t width, std::span<double> sums,
                   std::span<const int64_t> counts) override {
    Add(width, sums, counts);
  }
  void CombineGradients(int64_t width, std::span<float> gradients,
                        std::span<const int64_t> counts) override {
    Add(width, gradients, counts);
  }

 private:
  template <typename T>
  void Add(int64_t width, std::span<T> rows, std::span<const int64_t> counts) {
    std::vector<int64_t> count(counts.begin(), counts.end());
    Combine([&](size_t a, size_t b) {
      for (int64_t i = 0; count[b] > 0 && i < width; ++i) {
        T& left = rows[a * width + i];
        const T right = rows[b * width + i];
        left = count[a] == 0 ? right : left + right;
      }
      count[a] += count[b];
    });
  }

  // merge(left node, right node) for every inner node of the tree above the nodes, children first.
  template <typename Merge>
  void Combine(Merge merge) {
    CombineRange(0, nodes_.back().end, merge);
  }
  // Returns the node whose row holds the value of the shards [begin, end).
  template <typename Merge>
  size_t CombineRange(int begin, int end, Merge merge) {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].begin == begin && nodes_[i].end == end) return i;
    }
    int half = 1;
    while (half * 2 < end - begin) half *= 2;
    const size_t left = CombineRange(begin, begin + half, merge);
    const size_t right = CombineRange(begin + half, end, merge);
    merge(left, right);
    return left;
  }

  std::vector<ShardNode> nodes_;
};

struct Bits {
  std::vector<float> output, gradient, buffers;
  bool operator==(const Bits&) const = default;
};

Bits RunStep(const Network& network, Collective& collective, const std::vector<int64_t>& shards) {
  ThreadPool pool(2);
  Batch batch;
  batch.samples = batch.global_samples = shards.back();
  batch.shard_begin = shards;
  batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
  const Capacity capacity = {batch.samples, static_cast<int>(shards.size()) - 1, pool.threads()};
  TrainingPass pass(network, capacity, static_cast<int>(batch.nodes.size()), /*logits=*/true);
  AlignedBuffer<float> parameters(network.parameters_size());
  AlignedBuffer<float> buffers(network.buffers_size());
  network.Initialize(5, parameters.span(), buffers.span());
  StepContext step;
  step.kernels = kernels::Kernels();
  step.pool = &pool;
  step.collective = &collective;
  step.batch = &batch;

  std::mt19937 random(6);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  const int64_t input_size = network.input().size();
  std::vector<float> inputs(batch.samples * input_size);
  for (float& v : inputs) v = uniform(random);
  pass.Forward(step, parameters.data(), buffers.data(), [&](const Tile& tile, float* x) {
    std::copy_n(inputs.data() + tile.begin * input_size, tile.samples * input_size, x);
  });
  const int64_t outputs = batch.samples * network.output().size();
  for (int64_t i = 0; i < outputs; ++i) pass.output_gradient()[i] = uniform(random);
  Bits bits;
  bits.output.assign(pass.output(), pass.output() + outputs);
  pass.Backward(step, parameters.data());
  pass.Reduce(step);
  bits.gradient.assign(pass.gradient().begin(), pass.gradient().end());
  bits.buffers.assign(buffers.data(), buffers.data() + buffers.size());
  return bits;
}

TEST(TrainingPass, GetsTheSameBitsFromAnyNodesOfTheTree) {
  auto spec = ParseJson<v1::ModelSpec>(R"({"input": {"shape": [6, 6, 2]}, "layers": [
      {"conv2d": {"filters": 5, "kernel_size": [3], "activation": "relu"}},
      {"batch_normalization": {}}, {"max_pooling2d": {}}, {"flatten": {}}, {"dropout": {"rate": 0.2}},
      {"dense": {"units": 9, "activation": "tanh"}}, {"batch_normalization": {}},
      {"dense": {"units": 4, "activation": "softmax"}}]})");
  auto network = Network::Build(&spec);
  ASSERT_TRUE(network.ok()) << network.status();
  // Seven shards, the third empty and the last of one sample: P = 8.
  const std::vector<int64_t> shards = {0, 3, 6, 6, 11, 14, 20, 21};
  LocalCollective root(7);
  const Bits expected = RunStep(*network, root, shards);
  const std::vector<std::vector<ShardNode>> splits = {
      {{0, 4}, {4, 7}},
      {{0, 4}, {4, 6}, {6, 7}},
      {{0, 2}, {2, 4}, {4, 7}},
      {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {6, 7}},
  };
  for (const std::vector<ShardNode>& nodes : splits) {
    NodesCollective collective(nodes);
    EXPECT_EQ(expected, RunStep(*network, collective, shards)) << nodes.size() << " nodes";
  }
}

}  // namespace
}  // namespace lockstep
