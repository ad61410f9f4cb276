#include "core/training/training_loss.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/layers/row_sums.h"
#include "core/tensor/columns.h"

namespace lockstep {
namespace {

int64_t RowSize(std::span<const Objective> objectives) {
  return objectives.back().begin + objectives.back().columns;
}

// What the names of an output's vectors in a snapshot begin with.
std::string ScoresName(size_t output) { return absl::StrCat("scores.", output, "."); }

}  // namespace

TrainingLoss::TrainingLoss(std::span<const Objective> objectives, const DataFeed& data,
                           int64_t samples, const Capacity& capacity, int nodes)
    : objectives_(objectives),
      data_(data),
      sums_(objectives.size()),
      row_size_(RowSize(objectives)),
      output_(objectives.size() > 1 ? capacity.samples * row_size_ : 0),
      gradient_(objectives.size() > 1 ? capacity.samples * row_size_ : 0),
      block_sums_(RowSumsBytes(capacity, 1, 1)),
      node_sums_(nodes),
      node_counts_(nodes) {
  for (size_t o = 0; o < objectives.size(); ++o) {
    targets_.push_back(data.MakeTargetMemory(o, capacity.samples));
    scores_.emplace_back(objectives[o], samples);
  }
  step_values_.resize(StepNames().size());
}

int64_t TrainingLoss::MemoryBytes(std::span<const Objective> objectives, int64_t samples,
                                  const Capacity& capacity) {
  int64_t bytes = RowSumsBytes(capacity, 1, 1);
  for (const Objective& objective : objectives) {
    // Targets, a weight, and what is taken out of the rows of several outputs.
    const int64_t floats = (objective.loss.has_labels() ? 1 : objective.columns) + 1 +
                           (objectives.size() > 1 ? 2 * objective.columns : 0);
    bytes += Scores::MemoryBytes(objective, samples) +
             capacity.samples * floats * static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

// Over all shards, as the contract sums across samples (rule 2).
double TrainingLoss::SumOverBatch(const StepContext& step, const float* values) {
  for (size_t i = 0; i < node_counts_.size(); ++i) {
    node_counts_[i] = step.batch->node_samples(step.batch->nodes[i]);
  }
  CombineNodeSums(step, values, nullptr, 1, 1, 1, block_sums_.data(), node_sums_.data(), 1);
  step.collective->CombineSums(1, node_sums_, node_counts_);
  return node_sums_[0];
}

double TrainingLoss::SumLosses(const StepContext& step, size_t o, std::span<const int32_t> samples,
                               int64_t first, TrainingPass& pass) {
  const float scale = 1.0f / static_cast<float>(step.batch->global_samples) * objectives_[o].weight;
  const Targets targets = data_.GatherTargets(o, samples, targets_[o]);
  Measure(*step.kernels, o, first, std::ssize(samples), targets, scale, pass);
  return SumOverBatch(step, scores_[o].losses(first));
}

double TrainingLoss::Probe(const StepContext& step, std::span<const int32_t> samples,
                           double penalty, TrainingPass& pass) {
  const auto count = static_cast<double>(step.batch->global_samples);
  double value = penalty;
  for (size_t o = 0; o < objectives_.size(); ++o) {
    value += objectives_[o].weight * (SumLosses(step, o, samples, 0, pass) / count);
  }
  return value;
}

double TrainingLoss::Compute(const StepContext& step, std::span<const int32_t> samples,
                             int64_t first, double penalty, TrainingPass& pass) {
  const Batch& batch = *step.batch;
  const auto rows = std::ssize(samples);
  size_t next = 1;
  step_values_[0] = penalty;
  penalties_ += penalty * static_cast<double>(batch.global_samples);
  for (size_t o = 0; o < objectives_.size(); ++o) {
    const Objective& objective = objectives_[o];
    const double sum = SumLosses(step, o, samples, first, pass);
    sums_[o] += sum;
    step_values_[0] += objective.weight * (sum / static_cast<double>(batch.global_samples));
    for (size_t m = 0; m < objective.metrics.size(); ++m) {
      if (objective.metrics[m].in_steps()) {
        step_values_[next++] = scores_[o].Value(m, first, rows);
      }
    }
  }
  samples_ = first + rows;
  return step_values_[0];
}

// Of several outputs each is taken out of the rows of all.
void TrainingLoss::Measure(const kernels::KernelTable& kernels, size_t o, int64_t first,
                           int64_t rows, const Targets& targets, float scale, TrainingPass& pass) {
  Scores& scores = scores_[o];
  if (objectives_.size() == 1) {
    scores.Measure(kernels, first, rows, pass.output(), targets, scale, pass.output_gradient());
    return;
  }
  const auto [begin, columns] = std::pair(objectives_[o].begin, objectives_[o].columns);
  CopyColumns(rows, columns, pass.output() + begin, row_size_, output_.data(), columns);
  scores.Measure(kernels, first, rows, output_.data(), targets, scale, gradient_.data());
  CopyColumns(rows, columns, gradient_.data(), columns, pass.output_gradient() + begin, row_size_);
}

std::vector<std::string> TrainingLoss::StepNames() const {
  std::vector<std::string> names = {"loss"};
  for (const Objective& objective : objectives_) {
    for (const Metric& metric : objective.metrics) {
      if (metric.in_steps()) names.push_back(objective.prefix + metric.name());
    }
  }
  return names;
}

std::vector<v1::Metric> TrainingLoss::EndEpoch() {
  for (double& sum : sums_) sum /= static_cast<double>(samples_);
  std::vector<v1::Metric> metrics = DescribeScores(objectives_, scores_, sums_, samples_);
  metrics.front().set_value(metrics.front().value() + penalties_ / static_cast<double>(samples_));
  sums_.assign(sums_.size(), 0.0);
  penalties_ = 0;
  samples_ = 0;
  return metrics;
}

void TrainingLoss::Save(RunSnapshot* snapshot) const {
  v1::EpochLossState& state = *snapshot->state.mutable_loss();
  state.set_samples(samples_);
  state.mutable_losses()->Add(sums_.begin(), sums_.end());
  state.set_penalties(penalties_);
  if (samples_ == 0) return;
  for (size_t o = 0; o < scores_.size(); ++o) scores_[o].Save(ScoresName(o), samples_, snapshot);
}

absl::Status TrainingLoss::Restore(const RunSnapshot& snapshot, int64_t samples) {
  const v1::EpochLossState& state = snapshot.state.loss();
  if (state.samples() != samples || state.losses_size() != std::ssize(sums_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "checkpoint: does not fit the job: loss is of ", state.samples(), " samples and ",
        state.losses_size(), " outputs, not of ", samples, " and ", sums_.size()));
  }
  samples_ = samples;
  sums_.assign(state.losses().begin(), state.losses().end());
  penalties_ = state.penalties();
  absl::Status status;
  if (samples_ == 0) return status;
  for (size_t o = 0; o < scores_.size(); ++o) {
    status.Update(scores_[o].Restore(ScoresName(o), samples_, snapshot));
  }
  return status;
}

}  // namespace lockstep
