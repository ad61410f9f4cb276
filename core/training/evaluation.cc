#include "core/training/evaluation.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace lockstep {
namespace {

constexpr int64_t kPart = InferencePlan::kPartSamples;  // samples of one forward pass
constexpr int64_t kBlock = 1024;

double Mean(const std::vector<float>& values) {
  double total = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    double block = 0;
    for (size_t i = begin; i < std::min(values.size(), begin + kBlock); ++i) block += values[i];
    total += block;
  }
  return total / static_cast<double>(values.size());
}

}  // namespace

Evaluation::Evaluation(const Network& network, const DataFeed& data, const Loss& loss,
                       const ThreadPool& pool)
    : network_(network),
      data_(data),
      loss_(loss),
      pass_(network, {loss.has_classes()}),
      losses_(data.samples()),
      correct_(loss.has_classes() ? data.samples() : 0) {
  const int64_t outputs = kPart * network.output().size();
  for (int i = 0; i < pool.threads(); ++i) {
    workspaces_.push_back({.memory = AlignedBuffer<std::byte>(pass_.MemoryBytes()),
                           .x = AlignedBuffer<float>(kPart * network.input().size()),
                           .y = AlignedBuffer<float>(outputs),
                           .labels = std::vector<int32_t>(kPart),
                           .values = AlignedBuffer<float>(loss.has_classes() ? 0 : outputs)});
  }
}

int64_t Evaluation::MemoryBytes(const Network& network, const Loss& loss, int64_t samples,
                                int threads) {
  const int64_t floats =
      kPart * (network.input().size() + (loss.has_classes() ? 1 : 2) * network.output().size() + 1);
  const InferencePlan plan(network);
  return plan.packed_bytes() + plan.folded_floats() * static_cast<int64_t>(sizeof(float)) +
         threads * (plan.memory_bytes() + floats * static_cast<int64_t>(sizeof(float))) +
         samples * 2 * static_cast<int64_t>(sizeof(float));
}

Evaluation::Result Evaluation::Run(const kernels::KernelTable& kernels, ThreadPool& pool,
                                   const float* parameters, const float* buffers) {
  pass_.SetWeights(kernels, parameters, buffers);
  const int64_t columns = network_.output().size();
  const int64_t parts = (data_.samples() + kPart - 1) / kPart;
  pool.ParallelFor(parts, [&](int64_t part, int thread) {
    Workspace& w = workspaces_[thread];
    const int64_t begin = part * kPart;
    const int64_t count = std::min(kPart, data_.samples() - begin);
    std::array<int32_t, kPart> all;
    std::iota(all.begin(), all.end(), static_cast<int32_t>(begin));
    const std::span<const int32_t> samples = std::span(all).first(count);
    data_.Inputs(kernels, samples, w.x.data());
    pass_.Run(kernels, count, w.x.data(), w.y.data(), w.memory.data());
    if (loss_.has_classes()) {
      data_.Labels(samples, w.labels.data());
      MarkCorrect(count, columns, w.y.data(), w.labels.data(), correct_.data() + begin);
    } else {
      data_.Values(samples, w.values.data());
    }
    loss_.Compute(kernels, count, columns, w.y.data(), {w.labels.data(), w.values.data()}, 1.0f,
                  losses_.data() + begin, nullptr);
  });
  return {.loss = Mean(losses_), .accuracy = correct_.empty() ? 0 : Mean(correct_)};
}

}  // namespace lockstep
