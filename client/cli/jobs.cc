#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_view.h"
#include "client/cli/progress_line.h"
#include "client/cli/watch_view.h"

namespace lockstep {
namespace {

// Lines of a name and a value; without a value there is no line.
class Fields {
 public:
  void Add(const std::string& name, const std::string& value) {
    if (!value.empty()) text_ += fmt::format("{:<12} {}\n", name, value);
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

std::string State(const v1::Job& job) {
  std::string state = StateName(job.state());
  if (!job.state_reason().empty()) state += ": " + job.state_reason();
  if (job.state() == v1::PAUSED) state += fmt::format("; `lockstep resume {}` goes on", job.id());
  return state;
}

std::string Labels(const v1::JobSpec& spec) {
  const std::map<std::string, std::string> sorted(spec.labels().begin(), spec.labels().end());
  std::string text;
  for (const auto& [key, value] : sorted) {
    // Any text is a label's value, but no terminal's command.
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", key, absl::Utf8SafeCHexEscape(value));
  }
  return text;
}

std::string Worker(const v1::Job& job) {
  if (!job.has_worker()) return "";
  return fmt::format("{}, {} thread{}{}", job.worker().name(), job.worker().threads(),
                     job.worker().threads() == 1 ? "" : "s",
                     job.worker().supervised() ? ", started by the server" : "");
}

// What the server counts ends with the newest change of state; what has gone by since is known of
// a first attempt only.
std::string RunTime(const v1::Job& job, absl::Time now) {
  if (job.state() != v1::RUNNING) {
    return job.run_seconds() > 0 ? FormatClock(job.run_seconds()) : "";
  }
  if (job.run_seconds() > 0) return FormatClock(job.run_seconds()) + " before this attempt";
  return job.has_start_time() && job.attempt() == 1
             ? FormatClock(absl::ToDoubleSeconds(now - ToTime(job.start_time())))
             : "";
}

std::string NewestCheckpoint(const v1::Job& job, absl::Time now) {
  if (job.checkpoints().empty()) return "";
  const v1::Checkpoint& newest = job.checkpoints(0);
  return fmt::format("step {}, {}, {}; {} kept", newest.step(),
                     FormatAge(newest.create_time(), now), FormatBytes(newest.blob().size_bytes()),
                     job.checkpoints_size());
}

std::string Limits(const v1::Resources& resources) {
  std::string text;
  if (resources.max_seconds() > 0) text = FormatClock(resources.max_seconds()) + " of running";
  if (resources.max_memory_bytes() > 0) {
    text += (text.empty() ? "" : ", ") + FormatBytes(resources.max_memory_bytes()) + " of memory";
  }
  return text;
}

std::string Verified(const v1::Verification& verification) {
  if (verification.state_hash().empty()) return "";
  std::string text = fmt::format("of state hash {}", verification.state_hash());
  if (verification.has_checkpoint()) {
    text += fmt::format(", from step {}", verification.checkpoint().step());
  }
  return text;
}

}  // namespace

std::string Steps(const v1::Progress& progress) {
  return fmt::format("{}/{}", progress.step(), progress.total_steps());
}

std::string PublishedModel(const v1::Job& job) {
  if (!job.has_published()) return "-";
  return fmt::format("{}:{}", job.published().name(), job.published().version());
}

std::string JobText(const v1::Job& job, absl::Time now) {
  const v1::JobSpec& spec = job.spec();
  Fields fields;
  fields.Add("job", job.id());
  fields.Add("state", State(job));
  fields.Add("worker", Worker(job));
  fields.Add("priority", job.priority() == 0 ? "" : std::to_string(job.priority()));
  fields.Add("labels", Labels(spec));
  fields.Add("attempt", std::to_string(job.attempt()));
  fields.Add("submitted", FormatAge(job.create_time(), now));
  fields.Add("started", FormatAge(job.start_time(), now));
  fields.Add("ended", FormatAge(job.end_time(), now));
  fields.Add("run time", RunTime(job, now));
  fields.Add("steps", fmt::format("{} ({} an epoch, {} epochs)", Steps(job.progress()),
                                  job.progress().steps_per_epoch(), job.progress().epochs()));
  for (const v1::Metric& metric : job.progress().metrics()) {
    fields.Add(metric.name(), FormatMetric(metric.value()));
  }
  fields.Add("checkpoint", NewestCheckpoint(job, now));
  fields.Add("saved", Describe(spec.checkpoints()));
  fields.Add("limits", Limits(spec.resources()));
  fields.Add("verification", Verified(spec.verification()));
  fields.Add("train", spec.data().train().dataset());
  fields.Add("validation", spec.data().validation().dataset());
  fields.Add("training", Describe(spec.training()));
  for (const v1::Input& input : spec.model().inputs()) fields.Add("input", Describe(input));
  for (int i = 0; i < spec.model().layers_size(); ++i) {
    fields.Add(fmt::format("layers[{}]", i), Describe(spec.model().layers(i)));
  }
  fields.Add("fingerprint", job.fingerprint());
  fields.Add("contract", job.contract());
  fields.Add("trace", job.trace_id());
  fields.Add("model", PublishedModel(job));
  fields.Add("state hash", job.state_hash());
  return std::move(fields).text();
}

ExitCode ShowJob(Session& session, const std::string& id) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = client->GetJob(id);
  if (!job.ok()) return session.Fail("show " + id, job.status(), kSeeJobs);
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::fputs(JobText(*job, absl::Now()).c_str(), stdout);
  }
  return kOk;
}

ExitCode WatchJob(Session& session, const std::string& id, int64_t from_sequence) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = client->GetJob(id);
  if (!job.ok()) return session.Fail("watch " + id, job.status(), kSeeJobs);
  return Watch(session, *client, *job, {.from_sequence = from_sequence});
}

}  // namespace lockstep
