#include "server/jobs/job_state.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

struct Row {
  v1::JobState from;
  JobCommand command;
  v1::JobState to;
};

// The life of a job. Everything that is not here is refused. What was under way may come to its end
// before its worker hears that it shall stop: hence the ends of paused and queued jobs.
constexpr Row kTable[] = {
    {v1::QUEUED, JobCommand::kAssign, v1::RUNNING},
    {v1::QUEUED, JobCommand::kPause, v1::PAUSED},
    {v1::QUEUED, JobCommand::kSucceed, v1::SUCCEEDED},
    {v1::QUEUED, JobCommand::kFail, v1::FAILED},
    {v1::QUEUED, JobCommand::kCancel, v1::CANCELLED},
    {v1::RUNNING, JobCommand::kRequeue, v1::QUEUED},
    {v1::RUNNING, JobCommand::kPause, v1::PAUSED},
    {v1::RUNNING, JobCommand::kSucceed, v1::SUCCEEDED},
    {v1::RUNNING, JobCommand::kFail, v1::FAILED},
    {v1::RUNNING, JobCommand::kCancel, v1::CANCELLED},
    {v1::PAUSED, JobCommand::kResume, v1::QUEUED},
    {v1::PAUSED, JobCommand::kSucceed, v1::SUCCEEDED},
    {v1::PAUSED, JobCommand::kFail, v1::FAILED},
    {v1::PAUSED, JobCommand::kCancel, v1::CANCELLED},
};

}  // namespace

const char* JobCommandName(JobCommand command) {
  switch (command) {
    case JobCommand::kAssign:
      return "assign";
    case JobCommand::kRequeue:
      return "requeue";
    case JobCommand::kPause:
      return "pause";
    case JobCommand::kResume:
      return "resume";
    case JobCommand::kSucceed:
      return "succeed";
    case JobCommand::kFail:
      return "fail";
    case JobCommand::kCancel:
      return "cancel";
  }
  return "unknown";
}

absl::StatusOr<v1::JobState> NextState(v1::JobState state, JobCommand command) {
  const Row* row = std::find_if(std::begin(kTable), std::end(kTable), [&](const Row& row) {
    return row.from == state && row.command == command;
  });
  if (row == std::end(kTable)) {
    return absl::FailedPreconditionError(absl::StrCat("cannot ", JobCommandName(command),
                                                      " a job that is ", v1::JobState_Name(state)));
  }
  return row->to;
}

bool HasEnded(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

}  // namespace lockstep
