#include "core/training/objective.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

v1::Metric NamedValue(std::string name, double value) {
  v1::Metric metric;
  metric.set_name(std::move(name));
  metric.set_value(value);
  return metric;
}

}  // namespace

std::vector<Objective> MakeObjectives(const v1::TrainingSpec& training, const Network& network) {
  std::vector<Objective> objectives;
  for (int o = 0; o < training.losses_size(); ++o) {
    const v1::Loss& spec = training.losses(o);
    const NetworkOutput& output = network.outputs()[o];
    Objective objective = {
        .prefix = training.losses_size() == 1 ? "" : absl::StrCat(output.name, "_"),
        .begin = output.begin,
        .columns = output.shape.size(),
        .weight = spec.weight(),
        .loss = Loss(spec),
        .metrics = {}};
    for (const std::string& name : training.metrics()) {
      std::optional<Metric> metric =
          Metric::Make(name, objective.loss.activation(), objective.columns);
      if (metric) objective.metrics.push_back(*std::move(metric));
    }
    objectives.push_back(std::move(objective));
  }
  return objectives;
}

std::vector<bool> TakenActivations(std::span<const Objective> objectives) {
  std::vector<bool> taken;
  for (const Objective& objective : objectives) {
    taken.push_back(objective.loss.takes_activation());
  }
  return taken;
}

Scores::Scores(const Objective& objective, int64_t samples)
    : objective_(objective), losses_(samples) {
  for (const Metric& metric : objective.metrics) numbers_.emplace_back(samples * metric.width());
}

int64_t Scores::MemoryBytes(const Objective& objective, int64_t samples) {
  int64_t bytes = samples * kFloat;
  for (const Metric& metric : objective.metrics) {
    bytes += samples * metric.width() * kFloat + metric.ScratchBytes(samples);
  }
  return bytes;
}

void Scores::Measure(const kernels::KernelTable& kernels, int64_t first, int64_t rows,
                     const float* y, const Targets& targets, float scale, float* gradient) {
  objective_.loss.Compute(kernels, rows, objective_.columns, y, targets, scale,
                          losses_.data() + first, gradient);
  for (size_t m = 0; m < numbers_.size(); ++m) {
    const Metric& metric = objective_.metrics[m];
    metric.Measure(rows, y, targets, numbers_[m].data() + first * metric.width());
  }
}

void Scores::Save(const std::string& prefix, int64_t count, RunSnapshot* snapshot) const {
  snapshot->Add(prefix + "losses", std::span(losses_).first(count));
  for (size_t m = 0; m < numbers_.size(); ++m) {
    const Metric& metric = objective_.metrics[m];
    snapshot->Add(prefix + metric.name(), std::span(numbers_[m]).first(count * metric.width()));
  }
}

absl::Status Scores::Restore(const std::string& prefix, int64_t count,
                             const RunSnapshot& snapshot) {
  absl::Status status = snapshot.CopyTo(prefix + "losses", std::span(losses_).first(count));
  for (size_t m = 0; m < numbers_.size(); ++m) {
    const Metric& metric = objective_.metrics[m];
    status.Update(snapshot.CopyTo(prefix + metric.name(),
                                  std::span(numbers_[m]).first(count * metric.width())));
  }
  return status;
}

double Scores::MeanLoss(int64_t count) const { return BlockMean(std::span(losses_).first(count)); }

double Scores::Value(size_t m, int64_t first, int64_t count) const {
  const Metric& metric = objective_.metrics[m];
  return metric.Value(
      std::span(numbers_[m]).subspan(first * metric.width(), count * metric.width()));
}

std::vector<v1::Metric> DescribeScores(std::span<const Objective> objectives,
                                       std::span<const Scores> scores,
                                       std::span<const double> losses, int64_t count) {
  double total = 0;
  for (size_t o = 0; o < objectives.size(); ++o) total += objectives[o].weight * losses[o];
  std::vector<v1::Metric> metrics = {NamedValue("loss", total)};
  for (size_t o = 0; o < objectives.size() && objectives.size() > 1; ++o) {
    metrics.push_back(NamedValue(objectives[o].prefix + "loss", losses[o]));
  }
  for (size_t o = 0; o < objectives.size(); ++o) {
    for (size_t m = 0; m < objectives[o].metrics.size(); ++m) {
      metrics.push_back(NamedValue(objectives[o].prefix + objectives[o].metrics[m].name(),
                                   scores[o].Value(m, 0, count)));
    }
  }
  return metrics;
}

}  // namespace lockstep
