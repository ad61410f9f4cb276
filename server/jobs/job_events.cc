#include "server/jobs/job_events.h"

#include <utility>

namespace lockstep {
namespace {

constexpr size_t kMaxEpochHashes = 1000;

void SetMetric(const std::string& name, double value, v1::Progress& progress) {
  for (v1::Metric& metric : *progress.mutable_metrics()) {
    if (metric.name() == name) {
      metric.set_value(value);
      return;
    }
  }
  v1::Metric* metric = progress.add_metrics();
  metric->set_name(name);
  metric->set_value(value);
}

}  // namespace

v1::Event StateEvent(const v1::Job& job) {
  v1::Event event;
  event.set_attempt(job.attempt());
  event.mutable_state()->set_state(job.state());
  event.mutable_state()->set_reason(job.state_reason());
  return event;
}

v1::Event TextEvent(const v1::Job& job, v1::Text::Severity severity, std::string text) {
  v1::Event event;
  event.set_attempt(job.attempt());
  event.mutable_text()->set_severity(severity);
  event.mutable_text()->set_text(std::move(text));
  return event;
}

void UpdateProgress(const v1::Event& event, v1::Job& job) {
  v1::Progress& progress = *job.mutable_progress();
  if (event.has_step()) {
    progress.set_step(event.step().step());
    for (const v1::MetricSummary& metric : event.step().metrics()) {
      SetMetric(metric.name(), metric.last(), progress);
    }
  } else if (event.has_epoch()) {
    progress.set_step(event.epoch().step());
    for (const v1::Metric& metric : event.epoch().metrics()) {
      SetMetric(metric.name(), metric.value(), progress);
    }
  }
}

void ResetProgress(int64_t step, v1::Job& job) {
  job.mutable_progress()->set_step(step);
  if (step == 0) job.mutable_progress()->clear_metrics();
}

v1::Receipt MakeReceipt(const v1::Job& job, const v1::Dataset& train, const v1::Success& success,
                        std::span<const v1::EpochRecord> epochs) {
  v1::Receipt receipt;
  receipt.set_job_id(job.id());
  receipt.set_fingerprint(job.fingerprint());
  receipt.set_contract(job.contract());
  receipt.set_train_digest(train.digest());
  receipt.set_seed(job.spec().training().seed());
  receipt.set_shards(job.spec().training().shards());
  receipt.set_steps(success.steps());
  receipt.set_state_hash(success.state_hash());
  *receipt.mutable_spec() = job.spec();
  const size_t every = (epochs.size() + kMaxEpochHashes - 1) / kMaxEpochHashes;
  for (const v1::EpochRecord& epoch : epochs) {
    if (epoch.epoch() % static_cast<int64_t>(every) != 0) continue;
    v1::EpochHash& hash = *receipt.add_epochs();
    hash.set_epoch(epoch.epoch());
    hash.set_step(epoch.step());
    hash.set_state_hash(epoch.state_hash());
  }
  return receipt;
}

}  // namespace lockstep
