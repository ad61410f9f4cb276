#ifndef LOCKSTEP_SERVER_JOBS_JOB_CURVES_H_
#define LOCKSTEP_SERVER_JOBS_JOB_CURVES_H_

#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/events/curves.h"
#include "server/events/event_log.h"
#include "server/jobs/job_manager.h"

namespace lockstep {

// Every job's curves, for whoever draws them. Those of the jobs looked at last are in memory, and
// follow their logs; those of a job that has ended are in a file beside its log, so that nobody
// need read that again. Calls may wait for the disk. Thread-safe.
class JobCurves {
 public:
  // Of one curve, or of a part of it.
  struct Series {
    std::string name;
    std::vector<ShownPoint> points;
  };
  struct Selection {
    int points = 0;  // at most, of each curve
    int64_t first_step = std::numeric_limits<int64_t>::min();
    int64_t last_step = std::numeric_limits<int64_t>::max();
    absl::flat_hash_set<std::string> names;  // empty: all
  };
  struct Answer {
    std::vector<Series> series;  // by name
    int64_t last_sequence = 0;   // of the log, that they have in them
  };

  // `runs_directory` as the manager has it; the manager must outlive this.
  JobCurves(std::string runs_directory, JobManager* jobs)
      : runs_directory_(std::move(runs_directory)), jobs_(jobs) {}

  // NOT_FOUND without such a job. Nothing is read but what is not known yet, so it is well to call
  // this when a job has just ended. A few steps of a long job are read from its log, and so have
  // more points than the same steps have as a part of the whole.
  absl::StatusOr<Answer> Read(const std::string& id, const Selection& selection);

 private:
  // So many jobs' curves are in memory: about a megabyte each, if they are long.
  static constexpr size_t kJobsInMemory = 128;  // more than TensorBoard is shown at once
  // A range of so many events is read again for its detail.
  static constexpr int64_t kDetailEvents = 20'000;

  struct Entry {
    explicit Entry(const v1::Job& job)
        : id(job.id()), trace_id(job.trace_id()), create_time(job.create_time()) {}

    const std::string id;
    const std::string trace_id;                     // for logs
    const google::protobuf::Timestamp create_time;  // a deleted job's id may be used again
    absl::Mutex mu;
    Curves curves ABSL_GUARDED_BY(mu);
    std::shared_ptr<EventLog> log ABSL_GUARDED_BY(mu);  // null until it is needed
    bool whole ABSL_GUARDED_BY(mu) = false;             // the log is closed, and all of it is here
  };

  std::shared_ptr<Entry> EntryOf(const v1::Job& job) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes what the log has beyond the entry's curves into them.
  absl::Status Follow(Entry& entry, bool ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  // The curves of the log's events from `first` to `last`, nothing else.
  absl::StatusOr<Curves> Detail(const EventLog& log, int64_t first, int64_t last) const;
  absl::Status OpenLog(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  std::string FileOf(const std::string& id) const;

  const std::string runs_directory_;
  JobManager* const jobs_;

  absl::Mutex mu_;
  std::list<std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mu_);  // last used first
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_CURVES_H_
