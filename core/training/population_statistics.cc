#include "core/training/population_statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/inference/inference_pass.h"
#include "core/network/initial_weights.h"
#include "core/network/weights_file.h"
#include "core/numerics/float_environment.h"
#include "core/parallel/moments.h"
#include "core/training/data_feed.h"

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

PopulationStatistics::PopulationStatistics(const v1::ModelSpec& model, Network network,
                                           std::vector<TensorView> x, ThreadPool* pool)
    : model_(model),
      network_(std::move(network)),
      x_(std::move(x)),
      pool_(pool),
      parameters_(network_.parameters_size()),
      buffers_(network_.buffers_size()) {}

int64_t PopulationStatistics::Steps(const v1::ModelSpec& model) {
  return std::ranges::count_if(
      model.layers(), [](const v1::Layer& layer) { return layer.has_batch_normalization(); });
}

int64_t PopulationStatistics::MemoryBytes(const Network& network, int64_t samples, int threads) {
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
  // The weights, their copy in the prefix and one being serialised.
  return 3 * bytes * (network.parameters_size() + network.buffers_size()) + plan.packed_bytes() +
         plan.folded_floats() * bytes +
         threads * (plan.memory_bytes() + kPart * (network.input().size() + largest) * bytes) +
         blocks * 3 * channels * static_cast<int64_t>(sizeof(double));
}

absl::StatusOr<std::unique_ptr<JobRun>> PopulationStatistics::Create(
    const JobPlan& plan, const std::vector<TensorView>& x, ThreadPool* pool,
    std::string_view initial_weights) {
  if (kernels::Kernels() == nullptr) {
    return absl::FailedPreconditionError("this CPU has no AVX2 and FMA, which Lockstep needs");
  }
  v1::ModelSpec spec = plan.spec.model();
  auto network = Network::Build(&spec);
  if (!network.ok()) return network.status();
  std::unique_ptr<PopulationStatistics> run(
      new PopulationStatistics(spec, *std::move(network), x, pool));
  run->network_.Initialize(0, run->parameters_.span(), run->buffers_.span());
  auto read = ReadInitialWeights(run->network_, spec, plan.spec.initial_weights(), initial_weights,
                                 run->parameters_.span(), run->buffers_.span());
  if (!read.ok()) return read;
  auto checked = DataFeed::Create("data.train", {x, {}}, run->network_, {});
  if (!checked.ok()) return checked.status();
  return run;
}

absl::StatusOr<PopulationStatistics::Moments> PopulationStatistics::InputMoments(int i) const {
  const kernels::KernelTable& kernels = *kernels::Kernels();
  Prefix prefix;
  std::vector<bool> marked(network_.nodes().size());
  MarkLayers(network_, i, marked);
  const int first = first_layer();
  std::vector<NetworkInput> inputs;  // that the value depends on
  for (size_t k = 0; k < network_.inputs().size(); ++k) {
    if (first > 0 && !marked[k]) continue;
    *prefix.spec.add_inputs() = model_.inputs(static_cast<int>(k));
    inputs.push_back(network_.inputs()[k]);
  }
  for (int k = first; k < i; ++k) {
    if (marked[k]) *prefix.spec.add_layers() = model_.layers(k - first);
  }
  std::optional<InferencePass> pass;
  if (prefix.spec.layers_size() > 0) {
    auto network = Network::Build(&prefix.spec);
    if (!network.ok()) return network.status();
    prefix.network.emplace(*std::move(network));
    prefix.parameters = AlignedBuffer<float>(prefix.network->parameters_size());
    prefix.buffers = AlignedBuffer<float>(prefix.network->buffers_size());
    CopyTensors(network_.parameters(), parameters_.data(), prefix.network->parameters(),
                prefix.parameters.data());
    CopyTensors(network_.buffers(), buffers_.data(), prefix.network->buffers(),
                prefix.buffers.data());
    pass.emplace(*prefix.network, std::vector<bool>{false});
    pass->SetWeights(kernels, prefix.parameters.data(), prefix.buffers.data());
  }
  auto feed = DataFeed::Create("data.train", {x_, {}}, network_, {});
  if (!feed.ok()) return feed.status();

  // A sample is [outer, channels, inner].
  const Shape& shape = network_.shape(network_.nodes()[i].inputs[0]);
  const int64_t axis = model_.layers(i - first).batch_normalization().axis();
  int64_t inner = 1;
  for (int k = static_cast<int>(axis > 0 ? axis : axis + shape.rank() + 1); k < shape.rank(); ++k) {
    inner *= shape[k];
  }
  const int64_t channels = network_.buffers()[network_.nodes()[i].first_buffer].size;
  const int64_t blocks = (feed->samples() + kBlock - 1) / kBlock;
  std::vector<BlockSums> sums(blocks);
  struct Workspace {
    AlignedBuffer<std::byte> memory;
    AlignedBuffer<float> x, y;
  };
  std::vector<Workspace> workspaces;
  for (int t = 0; t < pool_->threads(); ++t) {
    workspaces.push_back({AlignedBuffer<std::byte>(pass ? pass->MemoryBytes() : 0),
                          AlignedBuffer<float>(kPart * network_.input().size()),
                          AlignedBuffer<float>(pass ? kPart * shape.size() : 0)});
  }
  pool_->ParallelFor(blocks, [&](int64_t b, int thread) {
    Workspace& w = workspaces[thread];
    BlockSums& block = sums[b];
    block.first.assign(channels, 0.0);
    block.s1 = block.s2 = block.first;
    const int64_t end = std::min(feed->samples(), (b + 1) * kBlock);
    for (int64_t begin = b * kBlock; begin < end; begin += kPart) {
      const int64_t count = std::min(kPart, end - begin);
      std::array<int32_t, kPart> samples;
      std::iota(samples.begin(), samples.end(), static_cast<int32_t>(begin));
      feed->Inputs(kernels, std::span(samples).first(count), w.x.data());
      KeepInputs(inputs, count, network_.input().size(), w.x.data());
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
    const int64_t samples = std::min(kBlock, feed->samples() - b * kBlock);
    const double count = static_cast<double>(samples * (shape.size() / channels));
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

absl::Status PopulationStatistics::Step() {
  ResetFloatEnvironment();
  while (!model_.layers(next_layer_).has_batch_normalization()) ++next_layer_;
  const int i = first_layer() + next_layer_;
  const Network::Node& node = network_.nodes()[i];
  absl::StatusOr<Moments> moments = InputMoments(i);
  if (!moments.ok()) return moments.status();
  float* mean = buffers_.data() + network_.buffers()[node.first_buffer].offset;
  float* variance = buffers_.data() + network_.buffers()[node.first_buffer + 1].offset;
  for (size_t c = 0; c < moments->mean.size(); ++c) {
    mean[c] = static_cast<float>(moments->mean[c]);
    variance[c] = static_cast<float>(moments->m2[c] / std::max(1.0, moments->count - 1));
    if (!std::isfinite(mean[c]) || !std::isfinite(variance[c])) {
      return absl::FailedPreconditionError(
          absl::StrCat("\"", node.name, "\" (", node.path, ") reads values that are not finite"));
    }
  }
  ++next_layer_;
  ++step_;
  v1::StepRecord& record = *events_.emplace_back().mutable_step();
  record.set_step(step_);
  record.set_epoch(1);
  record.set_step_in_epoch(step_);
  events_.emplace_back().mutable_text()->set_text(
      absl::StrCat("\"", node.name, "\": mean and variance of ",
                   static_cast<int64_t>(moments->count), " values a channel"));
  if (done()) {
    v1::EpochRecord& epoch = *events_.emplace_back().mutable_epoch();
    epoch.set_epoch(1);
    epoch.set_step(step_);
    epoch.set_state_hash(StateHash());
  }
  return absl::OkStatus();
}

std::string PopulationStatistics::StateHash() const {
  Hasher hasher(Hasher::Algorithm::kBlake2s256);
  hasher.Update(std::as_bytes(parameters_.span()));
  hasher.Update(std::as_bytes(buffers_.span()));
  hasher.Update(std::as_bytes(std::span(&step_, 1)));
  return hasher.Finish();
}

std::string PopulationStatistics::SerializeWeights() const {
  return WriteWeights(network_, model_, step_, parameters_.span(), buffers_.span());
}

}  // namespace lockstep
