#include <fmt/format.h>

#include <cstdio>
#include <limits>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_view.h"
#include "client/cli/terminal.h"

namespace lockstep {
namespace {

std::string Doing(const v1::Worker& worker) {
  if (worker.job_id().empty()) return "idle";
  return worker.held() ? "held" : "training";
}

std::string WorkerTable(const v1::ListWorkersResponse& response, absl::Time now, bool builds) {
  std::vector<std::string> header = {"WORKER",  "DOES",  "JOB",   "ATTEMPT",
                                     "THREADS", "CORES", "JOINED"};
  if (builds) header.push_back("BUILD");
  Table table(std::move(header));
  for (const v1::Worker& worker : response.workers()) {
    const bool busy = !worker.job_id().empty();
    std::vector<std::string> row = {
        worker.name(),
        Doing(worker),
        busy ? worker.job_id() : "-",
        busy ? std::to_string(worker.attempt()) : "-",
        busy ? fmt::format("{}/{}", worker.job_threads(), worker.threads())
             : fmt::format("0/{}", worker.threads()),
        std::to_string(worker.cores()),
        FormatAge(worker.join_time(), now)};
    if (builds) row.push_back(worker.build());
    table.AddRow(std::move(row));
  }
  return table.ToString();
}

}  // namespace

std::string WorkersText(const v1::ListWorkersResponse& response, absl::Time now, int columns) {
  std::string text;
  if (response.workers().empty()) {
    text = "no worker is connected; `lockstepd serve` starts one, `lockstepd work` adds more\n";
  } else {
    text = WorkerTable(response, now, /*builds=*/true);
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      if (static_cast<int>(line.size()) <= columns) continue;
      text = WorkerTable(response, now, /*builds=*/false);
      break;
    }
  }
  const int64_t queued = response.queued_jobs();
  if (queued > 0) {
    text += fmt::format("{} job{} for a worker\n", queued, queued == 1 ? " waits" : "s wait");
  }
  return text;
}

ExitCode ListWorkers(Session& session) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::ListWorkersResponse> response = client->ListWorkers();
  if (!response.ok()) return session.Fail("workers", response.status(), "");
  if (session.json()) {
    for (const v1::Worker& worker : response->workers()) PrintJson(worker);
    return kOk;
  }
  const Terminal terminal;
  const int columns =
      terminal.interactive() ? terminal.style().width : std::numeric_limits<int>::max();
  std::fputs(WorkersText(*response, absl::Now(), columns).c_str(), stdout);
  return kOk;
}

}  // namespace lockstep
