#include "server/tensorboard/runs.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>

#include "server/telemetry/log.h"

namespace lockstep {
namespace {

constexpr int kBatch = 64;  // events

}  // namespace

void Places::Add(const Place& place) {
  newest_ = place;
  if (count_++ % stride_ != 0) return;
  if (kept_.size() == kMax) {
    for (size_t i = 0; i < kMax / 2; ++i) kept_[i] = kept_[2 * i];
    kept_.resize(kMax / 2);
    stride_ *= 2;
  }
  kept_.push_back(place);
}

std::vector<Places::Place> Places::Pick(int64_t limit) const {
  std::vector<Place> all = kept_;
  if (count_ > 0 && all.back().sequence != newest_.sequence) all.push_back(newest_);
  const int64_t count = static_cast<int64_t>(all.size());
  if (count <= limit) return all;
  std::vector<Place> picked;
  for (int64_t i = 0; i + 1 < limit; ++i) picked.push_back(all[i * (count - 1) / (limit - 1)]);
  if (limit > 0) picked.push_back(all.back());
  return picked;
}

Run::Run(v1::Job job, std::shared_ptr<EventLog> log) : job_(std::move(job)), log_(std::move(log)) {
  Index(ProjectJob(job_), 0);
}

void Run::Index(const std::vector<tb::Event>& events, int64_t sequence) {
  for (const tb::Event& event : events) {
    Tensors* plugin = nullptr;
    for (const tb::Summary::Value& value : event.summary().value()) {
      if (!value.has_tensor()) continue;
      plugin = &tensors_[value.metadata().plugin_data().plugin_name()];
      plugin->tags.emplace(value.tag(), value.metadata());
    }
    if (plugin != nullptr) plugin->places.Add({sequence, event.step(), event.wall_time()});
  }
}

absl::Status Run::CatchUp() {
  while (next_sequence_ <= log_->last_sequence()) {
    absl::StatusOr<EventLog::Batch> batch = log_->Read(next_sequence_, kBatch);
    if (!batch.ok()) return batch.status();
    for (const v1::Event& event : batch->events) Index(ProjectTensors(event), event.sequence());
    next_sequence_ += static_cast<int64_t>(batch->events.size());
  }
  return absl::OkStatus();
}

absl::Status Run::ReadTensors(
    std::string_view plugin, int64_t limit,
    absl::FunctionRef<absl::Status(const Places::Place&, const tb::Summary::Value&)> take) const {
  const auto tensors = tensors_.find(plugin);
  if (tensors == tensors_.end()) return absl::OkStatus();
  for (const Places::Place& place : tensors->second.places.Pick(limit)) {
    std::vector<tb::Event> events;
    if (place.sequence == 0) {
      events = ProjectJob(job_);
    } else {
      absl::StatusOr<EventLog::Batch> batch = log_->Read(place.sequence, 1);
      if (!batch.ok()) return batch.status();
      events = ProjectTensors(batch->events.at(0));
    }
    for (const tb::Event& event : events) {
      for (const tb::Summary::Value& value : event.summary().value()) {
        if (value.metadata().plugin_data().plugin_name() != plugin) continue;
        if (absl::Status s = take(place, value); !s.ok()) return s;
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::Job>> Runs::Jobs(const Names& names) const {
  std::vector<v1::Job> jobs;
  if (!names.has_value()) {
    v1::ListJobsRequest newest;
    newest.set_page_size(kMost);
    absl::StatusOr<v1::ListJobsResponse> page = jobs_->List(newest);
    if (!page.ok()) return page.status();
    for (v1::Job& job : *page->mutable_jobs()) jobs.push_back(std::move(job));
    return jobs;
  }
  for (const std::string& name : *names) {
    if (jobs.size() == kMost) break;
    absl::StatusOr<v1::Job> job = jobs_->Get(name);
    if (job.ok()) {
      jobs.push_back(*std::move(job));
    } else if (!absl::IsNotFound(job.status())) {
      return job.status();
    }
  }
  return jobs;
}

absl::StatusOr<const Run*> Runs::Update(v1::Job job) {
  Entry& entry = entries_[job.id()];
  entry.used = calls_;
  // A deleted job's id may be another's now.
  using google::protobuf::util::MessageDifferencer;
  if (entry.run == nullptr ||
      !MessageDifferencer::Equals(entry.run->job().create_time(), job.create_time())) {
    absl::StatusOr<std::shared_ptr<EventLog>> log = jobs_->Log(job.id());
    if (!log.ok()) return log.status();
    entry.run = std::make_unique<Run>(std::move(job), *std::move(log));
  }
  if (absl::Status caught_up = entry.run->CatchUp(); !caught_up.ok()) return caught_up;
  return entry.run.get();
}

absl::StatusOr<std::vector<const Run*>> Runs::Find(const Names& names) {
  absl::StatusOr<std::vector<v1::Job>> jobs = Jobs(names);
  if (!jobs.ok()) return jobs.status();
  ++calls_;
  std::vector<const Run*> runs;
  for (v1::Job& job : *jobs) {
    const std::string id = job.id();
    const absl::StatusOr<const Run*> run = Update(std::move(job));
    if (run.ok()) {
      runs.push_back(*run);
    } else {  // which does not hide the others
      LogLine(LogLevel::kWarning, "cannot show a run", {{"job", id}, {"status", run.status()}});
    }
  }
  // A deleted job's log takes its room on the disk as long as it is open.
  if (!names.has_value()) {
    std::erase_if(entries_, [&](const auto& entry) { return entry.second.used < calls_; });
  }
  while (entries_.size() > kMost) {
    entries_.erase(std::min_element(
        entries_.begin(), entries_.end(),
        [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  return runs;
}

}  // namespace lockstep
