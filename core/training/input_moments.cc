#include "core/training/input_moments.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/inference/inference_pass.h"
#include "core/parallel/moments.h"
#include "core/tensor/aligned_buffer.h"

namespace lockstep {
namespace {

constexpr int64_t kBlock = 1024;                        // samples summed by one thread, in order
constexpr int64_t kPart = InferencePlan::kPartSamples;  // samples of one forward pass
static_assert(kBlock % kPart == 0);

// A network of its own for one value: the layers that it depends on, with their weights.
struct Prefix {
  v1::ModelSpec spec;
  std::optional<Network> network;
  AlignedBuffer<float> parameters, buffers;
};

// The node of the spec's first layer.
int FirstLayer(const Network& network) {
  return network.inputs().size() > 1 ? static_cast<int>(network.inputs().size()) : 0;
}

// Marks the layers that node `i` depends on.
void MarkLayers(const Network& network, int i, std::vector<bool>& marked) {
  for (int value : network.nodes()[i].inputs) {
    if (value == 0 || marked[value - 1]) continue;
    marked[value - 1] = true;
    MarkLayers(network, value - 1, marked);
  }
}

void CopyTensors(std::span<const NetworkTensor> from, const float* source,
                 std::span<const NetworkTensor> to, float* target) {
  std::map<std::string_view, int64_t> offsets;
  for (const NetworkTensor& tensor : from) offsets[tensor.name] = tensor.offset;
  for (const NetworkTensor& tensor : to) {
    std::copy_n(source + offsets.at(tensor.name), tensor.size, target + tensor.offset);
  }
}

// Leaves only these inputs in rows of `row_size` values, one after another.
void KeepInputs(const std::vector<NetworkInput>& inputs, int64_t rows, int64_t row_size, float* x) {
  float* to = x;
  for (int64_t r = 0; r < rows; ++r) {
    for (const NetworkInput& input : inputs) {
      const float* from = x + r * row_size + input.begin;
      if (from != to) std::copy_n(from, input.shape.size(), to);
      to += input.shape.size();
    }
  }
}

// {mean, M2} of one block's values, channel by channel, about the block's first value of each.
struct BlockSums {
  std::vector<double> first, s1, s2;
};

}  // namespace

int64_t InputMomentsBytes(const Network& network, int64_t samples, int threads) {
  const InferencePlan plan(network);
  int64_t largest = network.input().size();
  int64_t channels = 0;
  for (const Network::Node& node : network.nodes()) {
    largest = std::max(largest, node.output.size());
    for (int b = node.first_buffer; b < node.first_buffer + node.buffer_count; ++b) {
      channels = std::max(channels, network.buffers()[b].size);
    }
  }
  const auto bytes = static_cast<int64_t>(sizeof(float));
  const int64_t blocks = (samples + kBlock - 1) / kBlock;
  return bytes * (network.parameters_size() + network.buffers_size()) + plan.packed_bytes() +
         plan.folded_floats() * bytes +
         threads * (plan.memory_bytes() + kPart * (network.input().size() + largest) * bytes) +
         blocks * 3 * channels * static_cast<int64_t>(sizeof(double));
}

absl::StatusOr<Moments> InputMoments(const Network& network, const v1::ModelSpec& model, int layer,
                                     const float* parameters, const float* buffers,
                                     const DataFeed& feed, int64_t samples, ThreadPool& pool) {
  const kernels::KernelTable& kernels = *kernels::Kernels();
  Prefix prefix;
  const int first = FirstLayer(network);
  const int i = first + layer;
  std::vector<bool> marked(network.nodes().size());
  MarkLayers(network, i, marked);
  std::vector<NetworkInput> inputs;  // that the value depends on
  for (size_t k = 0; k < network.inputs().size(); ++k) {
    if (first > 0 && !marked[k]) continue;
    *prefix.spec.add_inputs() = model.inputs(static_cast<int>(k));
    inputs.push_back(network.inputs()[k]);
  }
  for (int k = first; k < i; ++k) {
    if (marked[k]) *prefix.spec.add_layers() = model.layers(k - first);
  }
  std::optional<InferencePass> pass;
  if (prefix.spec.layers_size() > 0) {
    auto built = Network::Build(&prefix.spec);
    if (!built.ok()) return built.status();
    prefix.network.emplace(*std::move(built));
    prefix.parameters = AlignedBuffer<float>(prefix.network->parameters_size());
    prefix.buffers = AlignedBuffer<float>(prefix.network->buffers_size());
    CopyTensors(network.parameters(), parameters, prefix.network->parameters(),
                prefix.parameters.data());
    CopyTensors(network.buffers(), buffers, prefix.network->buffers(), prefix.buffers.data());
    pass.emplace(*prefix.network, std::vector<bool>{false});
    pass->SetWeights(kernels, prefix.parameters.data(), prefix.buffers.data());
  }

  // A sample is [outer, channels, inner].
  const Shape& shape = network.shape(network.nodes()[i].inputs[0]);
  const v1::Layer& spec = model.layers(layer);
  const int64_t axis = spec.has_batch_normalization() ? spec.batch_normalization().axis() : -1;
  int64_t inner = 1;
  for (int k = static_cast<int>(axis > 0 ? axis : axis + shape.rank() + 1); k < shape.rank(); ++k) {
    inner *= shape[k];
  }
  const int64_t channels = network.buffers()[network.nodes()[i].first_buffer].size;
  const int64_t blocks = (samples + kBlock - 1) / kBlock;
  std::vector<BlockSums> sums(blocks);
  struct Workspace {
    AlignedBuffer<std::byte> memory;
    AlignedBuffer<float> x, y;
  };
  std::vector<Workspace> workspaces;
  for (int t = 0; t < pool.threads(); ++t) {
    workspaces.push_back({AlignedBuffer<std::byte>(pass ? pass->MemoryBytes() : 0),
                          AlignedBuffer<float>(kPart * network.input().size()),
                          AlignedBuffer<float>(pass ? kPart * shape.size() : 0)});
  }
  pool.ParallelFor(blocks, [&](int64_t b, int thread) {
    Workspace& w = workspaces[thread];
    BlockSums& block = sums[b];
    block.first.assign(channels, 0.0);
    block.s1 = block.s2 = block.first;
    const int64_t end = std::min(samples, (b + 1) * kBlock);
    for (int64_t begin = b * kBlock; begin < end; begin += kPart) {
      const int64_t count = std::min(kPart, end - begin);
      std::array<int32_t, kPart> part;
      std::iota(part.begin(), part.end(), static_cast<int32_t>(begin));
      feed.Inputs(kernels, std::span(part).first(count), w.x.data());
      KeepInputs(inputs, count, network.input().size(), w.x.data());
      const float* values = w.x.data();
      if (pass) {
        pass->Run(kernels, count, w.x.data(), w.y.data(), w.memory.data());
        values = w.y.data();
      }
      if (begin == b * kBlock) {
        for (int64_t c = 0; c < channels; ++c) block.first[c] = values[c * inner];
      }
      for (int64_t row = 0; row < count * shape.size() / (channels * inner); ++row) {
        for (int64_t c = 0; c < channels; ++c) {
          for (int64_t k = 0; k < inner; ++k, ++values) {
            const double d = *values - block.first[c];
            block.s1[c] += d;
            block.s2[c] += d * d;
          }
        }
      }
    }
  });

  Moments total;
  total.mean.resize(channels);
  total.m2.resize(channels);
  std::vector<double> mean(channels), m2(channels);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t block_samples = std::min(kBlock, samples - b * kBlock);
    const double count = static_cast<double>(block_samples * (shape.size() / channels));
    for (int64_t c = 0; c < channels; ++c) {
      const double s1 = sums[b].s1[c];
      mean[c] = sums[b].first[c] + s1 / count;
      m2[c] = std::max(0.0, sums[b].s2[c] - s1 * s1 / count);
    }
    MergeMoments(channels, total.count, total.mean.data(), total.m2.data(), count, mean.data(),
                 m2.data());
  }
  return total;
}

absl::Status SetStatistics(const Moments& moments, double divisor, const Network& network,
                           int layer, std::span<float> buffers) {
  const Network::Node& node = network.nodes()[FirstLayer(network) + layer];
  float* mean = buffers.data() + network.buffers()[node.first_buffer].offset;
  float* variance = buffers.data() + network.buffers()[node.first_buffer + 1].offset;
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    mean[c] = static_cast<float>(moments.mean[c]);
    variance[c] = static_cast<float>(moments.m2[c] / divisor);
    if (!std::isfinite(mean[c]) || !std::isfinite(variance[c])) {
      return absl::FailedPreconditionError(
          absl::StrCat("\"", node.name, "\" (", node.path, ") reads values that are not finite"));
    }
  }
  return absl::OkStatus();
}

bool TakesStatistics(const v1::Layer& layer) {
  return layer.has_normalization() && layer.normalization().mean_size() == 0;
}

absl::Status AdaptNormalizations(const Network& network, const v1::ModelSpec& model,
                                 const float* parameters, std::span<float> buffers,
                                 const DataFeed& feed, int64_t samples, ThreadPool& pool) {
  for (int i = 0; i < model.layers_size(); ++i) {
    if (!TakesStatistics(model.layers(i))) continue;
    const auto moments =
        InputMoments(network, model, i, parameters, buffers.data(), feed, samples, pool);
    if (!moments.ok()) return moments.status();
    auto set = SetStatistics(*moments, moments->count, network, i, buffers);
    if (!set.ok()) return set;
  }
  return absl::OkStatus();
}

}  // namespace lockstep
