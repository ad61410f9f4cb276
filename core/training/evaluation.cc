#include "core/training/evaluation.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "core/tensor/columns.h"

namespace lockstep {
namespace {

constexpr int64_t kPart = InferencePlan::kPartSamples;  // samples of one forward pass
constexpr int64_t kFloat = sizeof(float);

std::vector<Objective> WithoutClassWeights(std::vector<Objective> objectives) {
  for (Objective& objective : objectives) objective.loss.IgnoreClassWeights();
  return objectives;
}

}  // namespace

Evaluation::Evaluation(const Network& network, std::vector<Objective> objectives,
                       const DataFeed& data, int64_t first, int64_t samples, const ThreadPool& pool)
    : network_(network),
      objectives_(WithoutClassWeights(std::move(objectives))),
      data_(data),
      first_(first),
      samples_(samples),
      pass_(network, TakenActivations(objectives_)) {
  for (int i = 0; i < pool.threads(); ++i) {
    Workspace& workspace = workspaces_.emplace_back(Workspace{
        .memory = AlignedBuffer<std::byte>(pass_.MemoryBytes()),
        .x = AlignedBuffer<float>(kPart * network.input().size()),
        .y = AlignedBuffer<float>(kPart * network.output().size()),
        .part = AlignedBuffer<float>(objectives_.size() > 1 ? kPart * network.output().size() : 0),
        .targets = {}});
    for (size_t o = 0; o < objectives_.size(); ++o) {
      workspace.targets.push_back(data.MakeTargetMemory(o, kPart));
    }
  }
  for (const Objective& objective : objectives_) scores_.emplace_back(objective, samples);
}

int64_t Evaluation::MemoryBytes(const Network& network, std::span<const Objective> objectives,
                                int64_t samples, int threads) {
  int64_t floats = network.input().size();
  int64_t scores = 0;
  for (const Objective& objective : objectives) {
    // Outputs, their targets, a weight.
    floats += 2 * objective.columns + (objective.loss.has_labels() ? 1 : objective.columns) + 1;
    scores += Scores::MemoryBytes(objective, samples);
  }
  const InferencePlan plan(network);
  return plan.packed_bytes() + plan.folded_floats() * kFloat +
         threads * (plan.memory_bytes() + kPart * floats * kFloat) + scores;
}

std::vector<v1::Metric> Evaluation::Run(const kernels::KernelTable& kernels, ThreadPool& pool,
                                        const float* parameters, const float* buffers) {
  pass_.SetWeights(kernels, parameters, buffers);
  const int64_t parts = (samples_ + kPart - 1) / kPart;
  pool.ParallelFor(parts, [&](int64_t part, int thread) {
    Workspace& w = workspaces_[thread];
    const int64_t begin = part * kPart;
    const int64_t count = std::min(kPart, samples_ - begin);
    std::array<int32_t, kPart> all;
    std::iota(all.begin(), all.end(), static_cast<int32_t>(first_ + begin));
    const std::span<const int32_t> samples = std::span(all).first(count);
    data_.Inputs(kernels, samples, w.x.data());
    pass_.Run(kernels, count, w.x.data(), w.y.data(), w.memory.data());
    for (size_t o = 0; o < objectives_.size(); ++o) {
      const Targets targets = data_.GatherTargets(o, samples, w.targets[o]);
      const float* y = w.y.data();
      if (objectives_.size() > 1) {
        const Objective& objective = objectives_[o];
        CopyColumns(count, objective.columns, y + objective.begin, network_.output().size(),
                    w.part.data(), objective.columns);
        y = w.part.data();
      }
      scores_[o].Measure(kernels, begin, count, y, targets, 1.0f, nullptr);
    }
  });
  std::vector<double> losses;
  for (const Scores& scores : scores_) losses.push_back(scores.MeanLoss(samples_));
  return DescribeScores(objectives_, scores_, losses, samples_);
}

}  // namespace lockstep
