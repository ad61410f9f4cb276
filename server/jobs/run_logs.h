#ifndef LOCKSTEP_SERVER_JOBS_RUN_LOGS_H_
#define LOCKSTEP_SERVER_JOBS_RUN_LOGS_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "server/events/event_log.h"
#include "server/telemetry/metrics.h"

namespace lockstep {

// The event logs of all jobs, opened when they are needed, each at most once at a time; a log is
// closed with its last user. Not thread-safe.
class RunLogs {
 public:
  // Logs are at <directory>/<job id>/events.log.
  RunLogs(std::string directory, Metrics* metrics)
      : directory_(std::move(directory)), metrics_(metrics) {}

  // `job` as the store has it. If its last state is missing in the log (a crash came between the
  // two), it is added; the log of a job that has ended is closed for writing.
  absl::StatusOr<std::shared_ptr<EventLog>> Open(const v1::Job& job);

  // Removes all files of the job's run; who still reads its log may go on. OK when there are none.
  absl::Status Delete(const std::string& id);

 private:
  const std::string directory_;
  Metrics* const metrics_;
  std::map<std::string, std::weak_ptr<EventLog>> open_;
};

// Takes the newest records of a log into the job's progress.
void RestoreProgress(const EventLog& log, v1::Job& job);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_RUN_LOGS_H_
