#include "core/training/records.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

using Seconds = std::chrono::duration<double>;

void WriteTiming(int64_t samples, int64_t steps, Seconds busy, v1::Timing* timing) {
  timing->set_samples_per_second(static_cast<double>(samples) / std::max(busy.count(), 1e-9));
  timing->set_step_ms(1e3 * busy.count() / static_cast<double>(steps));
}

}  // namespace

Recorder::Recorder(const JobPlan& plan, std::vector<std::string> step_metrics)
    : steps_per_epoch_(plan.steps_per_epoch),
      total_steps_(plan.total_steps),
      log_every_(plan.spec.training().log_every()),
      step_metrics_(std::move(step_metrics)),
      summaries_(step_metrics_.size()) {}

void Recorder::Summary::Add(double value, bool first) {
  min = first ? value : std::min(min, value);
  max = first ? value : std::max(max, value);
  sum = first ? value : sum + value;
  last = value;
}

void Recorder::Summary::Write(const std::string& name, int64_t count,
                              v1::StepRecord* record) const {
  v1::MetricSummary* metric = record->add_metrics();
  metric->set_name(name);
  metric->set_min(min);
  metric->set_mean(sum / static_cast<double>(count));
  metric->set_max(max);
  metric->set_last(last);
}

void Recorder::BeginStep() { step_begin_ = Clock::now(); }

void Recorder::EndStep(int64_t step, int64_t samples, std::span<const double> values,
                       double learning_rate) {
  const Clock::duration took = Clock::now() - step_begin_;
  for (size_t m = 0; m < summaries_.size(); ++m) summaries_[m].Add(values[m], steps_ == 0);
  ++steps_;
  samples_ += samples;
  busy_ += took;
  epoch_samples_ += samples;
  epoch_busy_ += took;
  if (step % log_every_ == 0 || step % steps_per_epoch_ == 0 || step == total_steps_) {
    WriteStep(step, learning_rate);
  }
}

void Recorder::WriteStep(int64_t step, double learning_rate) {
  v1::StepRecord* record = events_.emplace_back().mutable_step();
  record->set_step(step);
  record->set_epoch((step - 1) / steps_per_epoch_ + 1);
  record->set_step_in_epoch((step - 1) % steps_per_epoch_ + 1);
  for (size_t m = 0; m < summaries_.size(); ++m) {
    summaries_[m].Write(step_metrics_[m], steps_, record);
  }
  record->set_learning_rate(learning_rate);
  WriteTiming(samples_, steps_, busy_, record->mutable_timing());
  steps_ = 0;
  samples_ = 0;
  busy_ = {};
}

const v1::EpochRecord& Recorder::EndEpoch(int64_t step, int64_t epoch, double learning_rate,
                                          std::span<const v1::Metric> training,
                                          std::span<const v1::Metric> validation,
                                          std::string state_hash) {
  v1::EpochRecord* record = events_.emplace_back().mutable_epoch();
  record->set_epoch(epoch);
  record->set_step(step);
  for (const v1::Metric& metric : training) *record->add_metrics() = metric;
  for (const v1::Metric& metric : validation) {
    v1::Metric* added = record->add_metrics();
    added->set_name("val_" + metric.name());
    added->set_value(metric.value());
  }
  record->set_state_hash(std::move(state_hash));
  record->set_learning_rate(learning_rate);
  const int64_t steps = (step - 1) % steps_per_epoch_ + 1;
  WriteTiming(epoch_samples_, steps, epoch_busy_, record->mutable_timing());
  epoch_samples_ = 0;
  epoch_busy_ = {};
  return *record;
}

void Recorder::AddText(std::string text) {
  v1::Text* event = events_.emplace_back().mutable_text();
  event->set_severity(v1::Text::INFO);
  event->set_text(std::move(text));
}

void Recorder::Save(v1::RecorderState* state) const {
  state->set_steps(steps_);
  state->set_samples(samples_);
  for (const Summary& summary : summaries_) {
    v1::SummaryState& saved = *state->add_summaries();
    saved.set_min(summary.min);
    saved.set_sum(summary.sum);
    saved.set_max(summary.max);
    saved.set_last(summary.last);
  }
  state->set_busy_seconds(Seconds(busy_).count());
  state->set_epoch_samples(epoch_samples_);
  state->set_epoch_busy_seconds(Seconds(epoch_busy_).count());
}

absl::Status Recorder::Restore(const v1::RecorderState& state) {
  if (state.summaries_size() != std::ssize(summaries_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: does not fit the job: recorder has ", state.summaries_size(),
                     " summaries, not ", summaries_.size()));
  }
  steps_ = state.steps();
  samples_ = state.samples();
  for (size_t m = 0; m < summaries_.size(); ++m) {
    const v1::SummaryState& saved = state.summaries(static_cast<int>(m));
    summaries_[m] = {saved.min(), saved.sum(), saved.max(), saved.last()};
  }
  busy_ = std::chrono::round<Clock::duration>(Seconds(state.busy_seconds()));
  epoch_samples_ = state.epoch_samples();
  epoch_busy_ = std::chrono::round<Clock::duration>(Seconds(state.epoch_busy_seconds()));
  return absl::OkStatus();
}

}  // namespace lockstep
