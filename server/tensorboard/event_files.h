#ifndef LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILES_H_
#define LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/events/event_log.h"
#include "server/jobs/job_manager.h"
#include "server/tensorboard/event_file.h"

namespace lockstep {

// Keeps an event file beside the log of every job, on a thread of its own: training waits for
// nothing here, and what fails (a disk that is nearly full) is a line in the server's log and tried
// again later. Jobs whose file is not complete are found when it starts, those that lived under an
// earlier server, too. Thread-safe.
class EventFiles {
 public:
  struct Options {
    std::string runs_directory;
    absl::Duration pause = absl::Milliseconds(500);  // between two writes to a file
    absl::Duration retry = absl::Seconds(10);        // after a failure
    // What a disk has left is the logs' and checkpoints', which training waits for.
    int64_t least_free_bytes = int64_t{256} << 20;
  };
  // `jobs` must outlive it.
  EventFiles(Options options, JobManager* jobs);
  ~EventFiles();
  EventFiles(const EventFiles&) = delete;
  EventFiles& operator=(const EventFiles&) = delete;

  // Something is about to be added to the job's log, by somebody who holds the manager's lock until
  // it is done. Does not block.
  void Follow(const std::string& id) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A job that has not ended, or whose file could not be completed.
  struct Run {
    int64_t create_time_ns = 0;
    std::unique_ptr<EventFile> file;
    std::shared_ptr<EventLog> log;  // of a running job
    bool failing = false;
  };

  void Work();
  void FindIncomplete();
  void UpdateFile(const std::string& id);
  // True: there is nothing to do until Follow.
  absl::StatusOr<bool> CatchUp(const std::string& id, Run& run);

  const Options options_;
  JobManager* const jobs_;

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::set<std::string> due_ ABSL_GUARDED_BY(mu_);

  // Of the thread alone.
  std::map<std::string, Run> runs_;
  std::set<std::string> failed_;

  std::thread thread_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_EVENT_FILES_H_
