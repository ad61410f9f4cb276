#include "core/training/records.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

using Seconds = std::chrono::duration<double>;

// `time` is the sum over the steps.
void WriteTiming(int64_t samples, int64_t steps, const StepTime& time, v1::Timing* timing) {
  const auto mean_ms = [&](StepTime::Duration sum) {
    return std::chrono::duration<double, std::milli>(sum).count() / static_cast<double>(steps);
  };
  const double seconds = Seconds(time.wall).count();
  timing->set_samples_per_second(static_cast<double>(samples) / std::max(seconds, 1e-9));
  timing->set_step_ms(mean_ms(time.wall));
  timing->set_compute_ms(mean_ms(time.compute));
  timing->set_wait_ms(mean_ms(time.wall - time.compute - time.reduce));
  timing->set_reduce_ms(mean_ms(time.reduce));
}

void SaveTime(const StepTime& time, v1::TimeState* state) {
  state->set_wall_seconds(Seconds(time.wall).count());
  state->set_compute_seconds(Seconds(time.compute).count());
  state->set_reduce_seconds(Seconds(time.reduce).count());
}

StepTime RestoreTime(const v1::TimeState& state) {
  const auto duration = [](double seconds) {
    return std::chrono::round<StepTime::Duration>(Seconds(seconds));
  };
  return {duration(state.wall_seconds()), duration(state.compute_seconds()),
          duration(state.reduce_seconds())};
}

}  // namespace

Recorder::Recorder(const JobPlan& plan, std::vector<std::string> step_metrics,
                   const ThreadPool& pool)
    : steps_per_epoch_(plan.steps_per_epoch),
      total_steps_(plan.total_steps),
      log_every_(plan.spec.training().log_every()),
      step_metrics_(std::move(step_metrics)),
      summaries_(step_metrics_.size()),
      clock_(pool) {}

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

void Recorder::EndStep(int64_t step, int64_t samples, std::span<const double> values,
                       double learning_rate, double gradient_norm) {
  const StepTime took = clock_.End();
  for (size_t m = 0; m < summaries_.size(); ++m) summaries_[m].Add(values[m], steps_ == 0);
  ++steps_;
  samples_ += samples;
  time_ += took;
  epoch_samples_ += samples;
  epoch_time_ += took;
  if (EndsRecord(step)) WriteStep(step, learning_rate, gradient_norm);
}

void Recorder::WriteStep(int64_t step, double learning_rate, double gradient_norm) {
  v1::StepRecord* record = events_.emplace_back().mutable_step();
  record->set_step(step);
  record->set_epoch((step - 1) / steps_per_epoch_ + 1);
  record->set_step_in_epoch((step - 1) % steps_per_epoch_ + 1);
  for (size_t m = 0; m < summaries_.size(); ++m) {
    summaries_[m].Write(step_metrics_[m], steps_, record);
  }
  record->set_learning_rate(learning_rate);
  record->set_gradient_norm(gradient_norm);
  WriteTiming(samples_, steps_, time_, record->mutable_timing());
  steps_ = 0;
  samples_ = 0;
  time_ = {};
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
  WriteTiming(epoch_samples_, steps, epoch_time_, record->mutable_timing());
  epoch_samples_ = 0;
  epoch_time_ = {};
  return *record;
}

void Recorder::AddText(int64_t step, v1::Text::Severity severity, std::string text) {
  v1::Text* event = events_.emplace_back().mutable_text();
  event->set_step(step);
  event->set_severity(severity);
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
  SaveTime(time_, state->mutable_time());
  state->set_epoch_samples(epoch_samples_);
  SaveTime(epoch_time_, state->mutable_epoch_time());
}

absl::Status Recorder::Restore(const v1::RecorderState& state) {
  if (state.summaries_size() != std::ssize(summaries_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: does not fit the job: recorder has ", state.summaries_size(),
                     " summaries, not ", summaries_.size()));
  }
  steps_ = state.steps();
  samples_ = state.samples();
  auto saved = state.summaries().begin();
  for (Summary& summary : summaries_) {
    summary = {saved->min(), saved->sum(), saved->max(), saved->last()};
    ++saved;
  }
  time_ = RestoreTime(state.time());
  epoch_samples_ = state.epoch_samples();
  epoch_time_ = RestoreTime(state.epoch_time());
  return absl::OkStatus();
}

}  // namespace lockstep
