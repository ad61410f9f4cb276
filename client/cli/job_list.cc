#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_view.h"
#include "client/cli/progress_line.h"
#include "client/cli/run_options.h"
#include "client/cli/terminal.h"

namespace lockstep {
namespace {

// Jobs carry whole specs; so many stay far below what a message may have.
constexpr int64_t kPage = 100;

std::string Loss(const v1::Progress& progress) {
  for (const v1::Metric& metric : progress.metrics()) {
    if (metric.name() == "loss") return FormatMetric(metric.value());
  }
  return "-";
}

std::string Worker(const v1::Job& job) {
  if (!job.has_worker()) return "-";
  return fmt::format("{} ({} thread{})", job.worker().name(), job.worker().threads(),
                     job.worker().threads() == 1 ? "" : "s");
}

std::string JobTable(const std::vector<v1::Job>& jobs, absl::Time now, bool priorities,
                     bool workers) {
  std::vector<std::string> header = {"JOB", "STATE"};
  if (priorities) header.push_back("PRIORITY");
  header.insert(header.end(), {"STEPS", "LOSS", "MODEL", "SUBMITTED"});
  if (workers) header.push_back("WORKER");
  Table table(std::move(header));
  for (const v1::Job& job : jobs) {
    std::vector<std::string> row = {job.id(), StateName(job.state())};
    if (priorities) row.push_back(std::to_string(job.priority()));
    row.insert(row.end(), {Steps(job.progress()), Loss(job.progress()), PublishedModel(job),
                           FormatAge(job.create_time(), now)});
    if (workers) row.push_back(Worker(job));
    table.AddRow(std::move(row));
  }
  return table.ToString();
}

absl::StatusOr<v1::ListJobsRequest> Request(const ListJobsArguments& arguments) {
  v1::ListJobsRequest request;
  for (const std::string& name : arguments.states) {
    v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
    v1::JobState_Parse(absl::AsciiStrToUpper(name), &state);
    if (state == v1::JOB_STATE_UNSPECIFIED) {
      return absl::InvalidArgumentError(fmt::format(
          "--state: '{}' is none of queued, running, paused, succeeded, failed, cancelled", name));
    }
    request.add_states(state);
  }
  if (absl::Status s = AddLabels(arguments.labels, *request.mutable_labels()); !s.ok()) return s;
  return request;
}

}  // namespace

std::string JobTable(const std::vector<v1::Job>& jobs, absl::Time now, int columns) {
  const bool priorities =
      std::any_of(jobs.begin(), jobs.end(), [](const v1::Job& job) { return job.priority() != 0; });
  if (std::any_of(jobs.begin(), jobs.end(), std::mem_fn(&v1::Job::has_worker))) {
    std::string wide = JobTable(jobs, now, priorities, /*workers=*/true);
    const std::vector<absl::string_view> lines = absl::StrSplit(wide, '\n');
    if (std::all_of(lines.begin(), lines.end(), [&](absl::string_view line) {
          return static_cast<int>(line.size()) <= columns;
        })) {
      return wide;
    }
  }
  return JobTable(jobs, now, priorities, /*workers=*/false);
}

ExitCode ListJobs(Session& session, const ListJobsArguments& arguments) {
  absl::StatusOr<v1::ListJobsRequest> request = Request(arguments);
  if (!request.ok()) return session.Misused("jobs", request.status());
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();

  const int64_t limit = arguments.all ? std::numeric_limits<int64_t>::max() : arguments.limit;
  std::vector<v1::Job> jobs;
  do {
    request->set_page_size(std::min<int64_t>(kPage, limit - std::ssize(jobs)));
    absl::StatusOr<v1::ListJobsResponse> page = client->ListJobs(*request);
    if (!page.ok()) return session.Fail("jobs", page.status(), "");
    std::move(page->mutable_jobs()->begin(), page->mutable_jobs()->end(), std::back_inserter(jobs));
    request->set_page_token(page->next_page_token());
  } while (!request->page_token().empty() && std::ssize(jobs) < limit);

  if (session.json()) {
    for (const v1::Job& job : jobs) PrintJson(job);
    return kOk;
  }
  if (jobs.empty()) {
    std::printf("%s\n", request->states().empty() && request->labels().empty()
                            ? "no jobs yet; `lockstep submit JOB.json --watch` starts one"
                            : "no such jobs");
    return kOk;
  }
  const Terminal terminal;
  const int columns =
      terminal.interactive() ? terminal.style().width : std::numeric_limits<int>::max();
  std::fputs(JobTable(jobs, absl::Now(), columns).c_str(), stdout);
  if (!request->page_token().empty())
    std::printf("%zu of more; --all lists the rest\n", jobs.size());
  return kOk;
}

}  // namespace lockstep
