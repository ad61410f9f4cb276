// A whole step's bits: the same whoever computes which part of it.

#include "core/network/training_pass.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/parallel/moments.h"
#include "tests/core/network/networks.h"
#include "tests/core/network/step_run.h"

namespace lockstep {
namespace {

// All shards in one process, but as the nodes that it is given: combines them over the rest of the
// tree as members that exchange nodes would.
class NodesCollective final : public Collective {
 public:
  explicit NodesCollective(std::vector<ShardNode> nodes) : nodes_(std::move(nodes)) {}

  std::span<const ShardNode> local_nodes() const override { return nodes_; }
  absl::Status status() const override { return absl::OkStatus(); }

  void CombineMoments(int64_t group_shards, int64_t channels, std::span<double> moments,
                      std::span<double> counts) override {
    CombineGroups(static_cast<int>(group_shards), [&](size_t a, size_t b) {
      double* left = moments.data() + a * 2 * channels;
      const double* right = moments.data() + b * 2 * channels;
      MergeMoments(channels, counts[a], left, left + channels, counts[b], right, right + channels);
    });
  }
  void CombineSums(int64_t width, std::span<double> sums,
                   std::span<const int64_t> counts) override {
    Add(0, width, sums, counts);
  }
  void CombineGroupSums(int64_t group_shards, int64_t width, std::span<double> sums,
                        std::span<const int64_t> counts) override {
    Add(group_shards, width, sums, counts);
  }
  void CombineGradients(int64_t width, std::span<float> gradients,
                        std::span<const int64_t> counts) override {
    Add(0, width, gradients, counts);
  }

 private:
  template <typename T>
  void Add(int64_t group_shards, int64_t width, std::span<T> rows,
           std::span<const int64_t> counts) {
    std::vector<int64_t> count(counts.begin(), counts.end());
    CombineGroups(static_cast<int>(group_shards), [&](size_t a, size_t b) {
      for (int64_t i = 0; count[b] > 0 && i < width; ++i) {
        T& left = rows[a * width + i];
        const T right = rows[b * width + i];
        left = count[a] == 0 ? right : left + right;
      }
      count[a] += count[b];
    });
  }

  // merge(left row, right row) for every inner node of the tree above the rows, children first;
  // with groups of shards only within each group.
  template <typename Merge>
  void CombineGroups(int group_shards, Merge merge) {
    const int shards = nodes_.back().end;
    if (group_shards == 0) group_shards = shards;
    std::vector<ShardNode> rows;
    for (const ShardNode& node : nodes_) {
      for (int begin = node.begin; begin < node.end;) {
        const int end = std::min(node.end, begin / group_shards * group_shards + group_shards);
        rows.push_back({begin, end});
        begin = end;
      }
    }
    for (int begin = 0; begin < shards; begin += group_shards) {
      CombineRange(rows, begin, std::min(shards, begin + group_shards), merge);
    }
  }
  // Returns the row that holds the value of the shards [begin, end).
  template <typename Merge>
  size_t CombineRange(const std::vector<ShardNode>& rows, int begin, int end, Merge merge) {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].begin == begin && rows[i].end == end) return i;
    }
    int half = 1;
    while (half * 2 < end - begin) half *= 2;
    const size_t left = CombineRange(rows, begin, begin + half, merge);
    const size_t right = CombineRange(rows, begin + half, end, merge);
    merge(left, right);
    return left;
  }

  std::vector<ShardNode> nodes_;
};

const char* const kChain = R"({"inputs": [{"shape": [6, 6, 2]}], "layers": [
    {"conv2d": {"filters": 5, "kernel_size": [3], "activation": "relu"}},
    {"batch_normalization": {}}, {"max_pooling2d": {}}, {"flatten": {}}, {"dropout": {"rate": 0.2}},
    {"dense": {"units": 9, "activation": "tanh"}}, {"batch_normalization": {}},
    {"dense": {"units": 4, "activation": "softmax"}}]})";

// Normalised by one, two and four shards at a time, as rows and as images; channels in the middle.
const char* const kGhosts = R"({"inputs": [{"shape": [6, 5, 2]}], "layers": [
    {"conv2d": {"filters": 5, "kernel_size": [3], "padding": "same"}},
    {"batch_normalization": {"group_shards": 1}}, {"activation": {"activation": "relu"}},
    {"batch_normalization": {"group_shards": 2, "axis": 2, "convention": "pytorch"}},
    {"max_pooling2d": {}}, {"batch_normalization": {"group_shards": 4, "axis": 1}},
    {"flatten": {}}, {"dense": {"units": 9, "activation": "tanh"}},
    {"batch_normalization": {"group_shards": 1, "cumulative_average": true}},
    {"batch_normalization": {"group_shards": 4, "scale": false}},
    {"dense": {"units": 4, "activation": "softmax"}}]})";

// Seven shards, the third empty and the last of one sample: P = 8.
const std::vector<int64_t> kShards = {0, 3, 6, 6, 11, 14, 20, 21};

StepBits RunWhole(const Network& network, const kernels::KernelTable* kernels, int threads) {
  LocalCollective root(static_cast<int>(kShards.size()) - 1);
  const StepInput input = StepInput::Random(network, kShards.back());
  return RunStep(network, input, kShards, root, kernels, threads);
}

// The shapes that several workers will need: a member of a collective that holds its shards as
// several nodes of the tree, instead of the root.
TEST(TrainingPass, GetsTheSameBitsFromAnyNodesOfTheTree) {
  for (const char* json : {kChain, kResidualNetwork, kGhosts, kShapesNetwork, kNormalizedNetwork}) {
    const Network network = BuildNetwork(json);
    const StepBits expected = RunWhole(network, kernels::Kernels(), 2);
    const std::vector<std::vector<ShardNode>> splits = {
        {{0, 4}, {4, 7}},
        {{0, 4}, {4, 6}, {6, 7}},
        {{0, 2}, {2, 4}, {4, 7}},
        {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {6, 7}},
    };
    for (const std::vector<ShardNode>& nodes : splits) {
      NodesCollective collective(nodes);
      const StepInput input = StepInput::Random(network, kShards.back());
      EXPECT_EQ(expected, RunStep(network, input, kShards, collective, kernels::Kernels(), 2))
          << nodes.size() << " nodes of " << json;
    }
  }
}

TEST(TrainingPass, GetsTheSameBitsFromAnyThreadsAndInstructionSet) {
  std::vector<std::string> networks = {kChain, kResidualNetwork, kGhosts, kShapesNetwork,
                                       kNormalizedNetwork};
  for (uint32_t seed = 0; seed < 20; ++seed) networks.push_back(RandomNetwork(seed));
  for (const std::string& json : networks) {
    const Network network = BuildNetwork(json);
    const StepBits expected = RunWhole(network, kernels::Kernels(), 1);
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
         ++table) {
      for (int threads : {1, 2, 3, 8}) {
        EXPECT_EQ(expected, RunWhole(network, *table, threads))
            << threads << " threads, " << (*table)->name << " " << json;
      }
    }
  }
}

// What ForwardAgain gives: the statistics it shows, then the outputs by those and by the moving
// ones.
struct AgainBits {
  std::vector<double> statistics;
  std::vector<float> output, moving_output, buffers;
  bool operator==(const AgainBits&) const = default;
};

AgainBits RunAgain(const Network& network, Collective& collective,
                   const kernels::KernelTable* kernels, int threads) {
  class Watcher final : public TrainingPass::Watcher {
   public:
    void SeeStatistics(int node, const BatchStatistics& seen) override {
      std::vector<double>& values = by_node[node];
      values.assign(seen.mean.begin(), seen.mean.end());
      values.insert(values.end(), seen.variance.begin(), seen.variance.end());
    }
    std::map<int, std::vector<double>> by_node;
  };
  const StepInput input = StepInput::Random(network, kShards.back());
  ThreadPool pool(threads);
  Batch batch;
  batch.samples = batch.global_samples = kShards.back();
  batch.shard_begin = kShards;
  batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
  TrainingPass pass(network, {batch.samples, batch.shards(), threads},
                    static_cast<int>(batch.nodes.size()),
                    std::vector<bool>(network.outputs().size(), true));
  StepContext step = {
      .kernels = kernels, .pool = &pool, .collective = &collective, .batch = &batch};
  const auto load = [&](const Tile& tile, float* x) {
    const int64_t size = network.input().size();
    std::copy_n(input.x.data() + tile.begin * size, tile.samples * size, x);
  };
  const auto output = [&] {
    return std::vector<float>(pass.output(),
                              pass.output() + batch.samples * network.output().size());
  };
  AgainBits bits;
  bits.buffers = input.buffers;
  Watcher watcher;
  pass.ForwardAgain(step, input.parameters.data(), bits.buffers, load, &watcher);
  for (const auto& [node, values] : watcher.by_node) {
    bits.statistics.insert(bits.statistics.end(), values.begin(), values.end());
  }
  bits.output = output();
  step.moving_statistics = true;
  pass.ForwardAgain(step, input.parameters.data(), bits.buffers, load, nullptr);
  bits.moving_output = output();
  EXPECT_EQ(bits.buffers, input.buffers) << "they are for steps to change";
  return bits;
}

TEST(TrainingPass, ForwardAgainSeesTheSameFromAnySplitThreadsAndInstructionSet) {
  for (const char* json : {kChain, kResidualNetwork, kGhosts, kNormalizedNetwork}) {
    SCOPED_TRACE(json);
    const Network network = BuildNetwork(json);
    LocalCollective whole(static_cast<int>(kShards.size()) - 1);
    const AgainBits expected = RunAgain(network, whole, kernels::Kernels(), 1);
    const StepInput input = StepInput::Random(network, kShards.back());
    EXPECT_EQ(expected.output,
              RunStep(network, input, kShards, whole, kernels::Kernels(), 1).output);
    EXPECT_EQ(expected.output == expected.moving_output, expected.statistics.empty());
    for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
         ++table) {
      for (int threads : {1, 3}) EXPECT_EQ(expected, RunAgain(network, whole, *table, threads));
    }
    NodesCollective split({{0, 1}, {1, 2}, {2, 4}, {4, 7}});
    EXPECT_EQ(expected, RunAgain(network, split, kernels::Kernels(), 2));
  }
}

}  // namespace
}  // namespace lockstep
