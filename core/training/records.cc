#include "core/training/records.h"

#include <algorithm>
#include <utility>

namespace lockstep {
namespace {

using Seconds = std::chrono::duration<double>;

void WriteTiming(int64_t samples, int64_t steps, Seconds busy, v1::Timing* timing) {
  timing->set_samples_per_second(static_cast<double>(samples) / std::max(busy.count(), 1e-9));
  timing->set_step_ms(1e3 * busy.count() / static_cast<double>(steps));
}

void WriteMetric(const char* name, double value, v1::EpochRecord* record) {
  v1::Metric* metric = record->add_metrics();
  metric->set_name(name);
  metric->set_value(value);
}

}  // namespace

Recorder::Recorder(const JobPlan& plan, bool accuracy)
    : steps_per_epoch_(plan.steps_per_epoch),
      total_steps_(plan.total_steps),
      log_every_(plan.spec.training().log_every()),
      accuracy_(accuracy) {}

void Recorder::Summary::Add(double value, bool first) {
  min = first ? value : std::min(min, value);
  max = first ? value : std::max(max, value);
  sum = first ? value : sum + value;
  last = value;
}

void Recorder::Summary::Write(const char* name, int64_t count, v1::StepRecord* record) const {
  v1::MetricSummary* metric = record->add_metrics();
  metric->set_name(name);
  metric->set_min(min);
  metric->set_mean(sum / static_cast<double>(count));
  metric->set_max(max);
  metric->set_last(last);
}

void Recorder::BeginStep() { step_begin_ = Clock::now(); }

void Recorder::EndStep(int64_t step, const BatchSums& sums, double learning_rate) {
  const Clock::duration took = Clock::now() - step_begin_;
  const auto samples = static_cast<double>(sums.samples);
  loss_summary_.Add(sums.loss / samples, steps_ == 0);
  accuracy_summary_.Add(sums.correct / samples, steps_ == 0);
  ++steps_;
  samples_ += sums.samples;
  busy_ += took;
  epoch_.samples += sums.samples;
  epoch_.loss += sums.loss;
  epoch_.correct += sums.correct;
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
  loss_summary_.Write("loss", steps_, record);
  if (accuracy_) accuracy_summary_.Write("accuracy", steps_, record);
  record->set_learning_rate(learning_rate);
  WriteTiming(samples_, steps_, busy_, record->mutable_timing());
  steps_ = 0;
  samples_ = 0;
  busy_ = {};
}

const v1::EpochRecord& Recorder::EndEpoch(int64_t step, int64_t epoch, double learning_rate,
                                          const std::optional<Evaluation::Result>& validation,
                                          std::string state_hash) {
  v1::EpochRecord* record = events_.emplace_back().mutable_epoch();
  record->set_epoch(epoch);
  record->set_step(step);
  const auto samples = static_cast<double>(epoch_.samples);
  WriteMetric("loss", epoch_.loss / samples, record);
  if (accuracy_) WriteMetric("accuracy", epoch_.correct / samples, record);
  if (validation) {
    WriteMetric("val_loss", validation->loss, record);
    if (accuracy_) WriteMetric("val_accuracy", validation->accuracy, record);
  }
  record->set_state_hash(std::move(state_hash));
  record->set_learning_rate(learning_rate);
  const int64_t steps = (step - 1) % steps_per_epoch_ + 1;
  WriteTiming(epoch_.samples, steps, epoch_busy_, record->mutable_timing());
  epoch_ = {};
  epoch_busy_ = {};
  return *record;
}

void Recorder::AddText(std::string text) {
  v1::Text* event = events_.emplace_back().mutable_text();
  event->set_severity(v1::Text::INFO);
  event->set_text(std::move(text));
}

}  // namespace lockstep
