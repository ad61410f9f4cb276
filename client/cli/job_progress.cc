#include "client/cli/job_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "client/cli/format.h"

namespace lockstep {
namespace {

// As tqdm's: how much the newest of a series of rates counts.
constexpr double kSmoothing = 0.3;
// What the name of a metric on the validation set begins with.
const std::string kValidation = "val_";
// Between lines about checkpoints.
constexpr absl::Duration kCheckpointPause = absl::Minutes(1);

}  // namespace

JobProgress::JobProgress(const v1::Job& job)
    : id_(job.id()),
      total_steps_(job.progress().total_steps()),
      epochs_(job.progress().epochs()),
      created_(ToTime(job.create_time())),
      state_since_(created_),
      last_event_(created_) {
  if (job.spec().verification().has_checkpoint()) {
    checkpoint_step_ = job.spec().verification().checkpoint().step();
    attempt_first_step_ = *checkpoint_step_;
  }
  first_step_ = attempt_first_step_;
  step_ = first_step_;
  if (job.state() == v1::PAUSED || job.state() == v1::RUNNING) {
    state_ = job.state();
    step_ = std::max(first_step_, job.progress().step());
  }
  if (!job.has_start_time()) return;
  started_ = ToTime(job.start_time());
  if (job.attempt() == 1) attempt_started_ = started_;
}

bool JobProgress::ended() const {
  return state_ == v1::SUCCEEDED || state_ == v1::FAILED || state_ == v1::CANCELLED;
}

void JobProgress::Apply(const v1::Event& event, absl::Time received) {
  if (last_received_ == absl::InfiniteFuture() && event.sequence() <= 1) {
    // The log tells it all, from before what the job has become.
    from_the_beginning_ = true;
    state_ = v1::QUEUED;
    step_ = first_step_;
  }
  last_event_ = ToTime(event.time());
  last_received_ = received;
  // Where the log is read from the middle, the change to RUNNING was not seen.
  const bool steps = event.has_step() || event.has_epoch();
  if (steps && state_ == v1::QUEUED) state_ = v1::RUNNING;
  switch (event.kind_case()) {
    case v1::Event::kState:
      ApplyState(event);
      break;
    case v1::Event::kStep: {
      const v1::StepRecord& record = event.step();
      epoch_ = record.epoch();
      step_ = record.step();
      metrics_.clear();
      for (const v1::MetricSummary& metric : record.metrics()) {
        metrics_.push_back(fmt::format("{}={}", metric.name(), FormatMetric(metric.mean())));
      }
      const double rate = record.timing().samples_per_second();
      if (rate > 0) {
        const double before = samples_per_second_.value_or(rate);
        samples_per_second_ = before + kSmoothing * (rate - before);
      }
      break;
    }
    case v1::Event::kEpoch: {
      const v1::EpochRecord& record = event.epoch();
      step_ = record.step();
      epoch_ = epochs_ > 0 ? std::min(record.epoch() + 1, epochs_) : record.epoch() + 1;
      epoch_s_.reset();
      if (epoch_started_ != absl::InfiniteFuture()) {
        epoch_s_ = absl::ToDoubleSeconds(last_event_ - epoch_started_);
      }
      epoch_started_ = last_event_;
      break;
    }
    case v1::Event::kCheckpoint:
      checkpoint_step_ = event.checkpoint().step();
      step_ = std::max(step_, *checkpoint_step_);
      break;
    default:
      break;
  }
}

void JobProgress::ApplyState(const v1::Event& event) {
  state_ = event.state().state();
  state_since_ = last_event_;
  if (state_ == v1::QUEUED) attempt_started_ = absl::InfiniteFuture();
  if (state_ != v1::RUNNING) return;
  attempt_ = event.attempt();
  attempt_first_step_ = checkpoint_step_.value_or(0);
  started_ = std::min(started_, last_event_);
  attempt_started_ = last_event_;
  epoch_started_ = last_event_;
  samples_per_second_.reset();
}

double JobProgress::elapsed_s() const {
  return started_ == absl::InfiniteFuture() ? 0 : absl::ToDoubleSeconds(last_event_ - started_);
}

ProgressLine JobProgress::Line(absl::Time now) const {
  const double since_event_s =
      std::max(0.0, absl::ToDoubleSeconds(now - std::min(now, last_received_)));
  ProgressLine line;
  if (state_ == v1::QUEUED || state_ == v1::PAUSED) {
    line.label = state_ == v1::PAUSED ? StateLine({})
                 : step_ == 0         ? "queued, waiting for a worker"
                              : fmt::format("queued at step {}, waiting for a worker", step_);
    line.elapsed_s = absl::ToDoubleSeconds(last_event_ - state_since_) + since_event_s;
    return line;
  }
  line.label = EpochLabel(epoch_);
  line.elapsed_s = elapsed_s() + since_event_s;
  line.rate = FormatRate(samples_per_second_.value_or(0), "sample");
  line.metrics = metrics_;
  if (total_steps_ <= 0) {
    line.count = fmt::format("step {}", step_);
    return line;
  }
  line.fraction = static_cast<double>(step_) / total_steps_;
  line.count = fmt::format("{}/{}", step_, total_steps_);
  const double attempt_s = absl::ToDoubleSeconds(last_event_ - attempt_started_);
  const int64_t attempt_steps = step_ - attempt_first_step_;
  if (attempt_steps > 0 && attempt_s > 0) {
    // From the attempt's mean pace, so that validation after each epoch is counted in.
    line.remaining_s =
        std::max(0.0, attempt_s / attempt_steps * (total_steps_ - step_) - since_event_s);
  }
  return line;
}

std::string JobProgress::EpochLine(const v1::EpochRecord& record, int columns) const {
  std::map<std::string, double> validation;
  for (const v1::Metric& metric : record.metrics()) {
    if (metric.name().starts_with(kValidation)) validation[metric.name()] = metric.value();
  }
  std::string metrics;
  for (const v1::Metric& metric : record.metrics()) {
    if (metric.name().starts_with(kValidation)) continue;
    metrics += fmt::format("  {} {}", metric.name(), FormatMetric(metric.value()));
    const auto beside = validation.find(kValidation + metric.name());
    if (beside == validation.end()) continue;
    metrics += fmt::format(" (val {})", FormatMetric(beside->second));
  }
  const std::string label = EpochLabel(record.epoch());
  const std::string clock = epoch_s_.has_value() ? FormatClock(*epoch_s_) : "?";
  const double rate = record.timing().samples_per_second();
  std::string line =
      fmt::format("{} [{}, {}]{}", label, clock, FormatRate(rate, "sample"), metrics);
  if (rate > 0 && std::ssize(line) <= columns) return line;
  return fmt::format("{} [{}]{}", label, clock, metrics);
}

std::string JobProgress::StateLine(const v1::StateChange& change) const {
  if (ended()) return "";
  std::string line = StateName(state_);
  if (state_ == v1::PAUSED) line += fmt::format(" at step {}", step_);
  const bool again = state_ == v1::RUNNING && attempt_ > 1;
  if (again) {
    line = fmt::format("attempt {}", attempt_);
    if (checkpoint_step_.has_value()) {
      line += fmt::format(": goes on from step {}", *checkpoint_step_);
    } else if (from_the_beginning_) {
      line += ": starts again, there was no checkpoint yet";
    }
  }
  if (!change.reason().empty()) {
    line += again ? " (" + change.reason() + ")" : ": " + change.reason();
  }
  if (state_ == v1::PAUSED) line += fmt::format("; `lockstep resume {}` goes on", id_);
  return line;
}

std::string JobProgress::CheckpointLine(const v1::Event& event) {
  const absl::Time time = ToTime(event.time());
  if (time - last_checkpoint_line_ < kCheckpointPause) return "";
  last_checkpoint_line_ = time;
  return fmt::format("checkpoint at step {} ({})", event.checkpoint().step(),
                     FormatBytes(event.checkpoint().size_bytes()));
}

std::string JobProgress::EpochLabel(int64_t epoch) const {
  if (epochs_ <= 0) return fmt::format("epoch {}", epoch);
  return fmt::format("epoch {:>{}}/{}", epoch, std::to_string(epochs_).size(), epochs_);
}

}  // namespace lockstep
