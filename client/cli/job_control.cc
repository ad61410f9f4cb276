#include <fmt/format.h>

#include <cstdio>

#include "absl/functional/function_ref.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_view.h"
#include "client/cli/json_object.h"

namespace lockstep {
namespace {

using Change = absl::FunctionRef<absl::StatusOr<v1::Job>(Client&)>;
using Line = absl::FunctionRef<std::string(const v1::Job&)>;

// Asks for a change of one job and says what became of it.
ExitCode Control(Session& session, const std::string& verb, const std::string& id, Change change,
                 Line line) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = change(*client);
  if (!job.ok()) {
    return session.Fail(verb + " " + id, job.status(),
                        absl::IsNotFound(job.status()) ? kSeeJobs : "");
  }
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::printf("%s\n", line(*job).c_str());
  }
  return kOk;
}

// "my-job paused"; where the worker has still to end its step, "my-job running, paused within a
// step".
std::string StateLine(const v1::Job& job, v1::JobState wanted) {
  std::string line = job.id() + " " + StateName(job.state());
  if (job.state() == v1::RUNNING) line += fmt::format(", {} within a step", StateName(wanted));
  return line;
}

}  // namespace

ExitCode CancelJob(Session& session, const std::string& id) {
  return Control(
      session, "cancel", id, [&](Client& client) { return client.CancelJob(id); },
      [](const v1::Job& job) { return StateLine(job, v1::CANCELLED); });
}

ExitCode PauseJob(Session& session, const std::string& id) {
  return Control(
      session, "pause", id, [&](Client& client) { return client.PauseJob(id); },
      [](const v1::Job& job) { return StateLine(job, v1::PAUSED); });
}

ExitCode ResumeJob(Session& session, const std::string& id) {
  return Control(
      session, "resume", id, [&](Client& client) { return client.ResumeJob(id); },
      [](const v1::Job& job) { return job.id() + " " + StateName(job.state()); });
}

ExitCode SetJobPriority(Session& session, const std::string& id, int priority) {
  return Control(
      session, "set-priority", id,
      [&](Client& client) { return client.SetJobPriority(id, priority); },
      [](const v1::Job& job) {
        return fmt::format("{} {}, priority {}", job.id(), StateName(job.state()), job.priority());
      });
}

ExitCode DeleteJobs(Session& session, const std::vector<std::string>& ids) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  ExitCode code = kOk;
  for (const std::string& id : ids) {
    const absl::Status status = client->DeleteJob(id);
    if (!status.ok()) {
      code =
          session.Fail("delete " + id, status,
                       absl::IsNotFound(status)             ? kSeeJobs
                       : absl::IsFailedPrecondition(status) ? "`lockstep cancel " + id + "` ends it"
                                                            : "");
      if (code == kUnreachable) return code;
    } else if (session.json()) {
      JsonObject().Text("deleted", id).Print();
    } else {
      std::printf("%s deleted\n", id.c_str());
    }
  }
  return code;
}

}  // namespace lockstep
