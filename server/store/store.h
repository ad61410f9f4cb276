#ifndef LOCKSTEP_SERVER_STORE_STORE_H_
#define LOCKSTEP_SERVER_STORE_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/v1/checkpoint.pb.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {

// Jobs in one of `states` that have all of `labels`; empty: all jobs.
struct JobFilter {
  std::vector<v1::JobState> states;
  std::map<std::string, std::string> labels;
};

struct JobPage {
  std::vector<v1::Job> jobs;
  int64_t next = 0;  // to be passed as `below` for the page after it; 0: that was all
};

// The truth about jobs, their checkpoints, data sets and models: one SQLite file (WAL,
// synchronous=FULL). A call that returns OK is durable; one that fails has changed nothing, and may
// be made again: RESOURCE_EXHAUSTED on a full disk, UNAVAILABLE after an I/O error (see
// IsStorageFailure), DATA_LOSS when the file is damaged. Thread-safe; calls may wait for the disk,
// so reactions of RPCs that must not block go through a thread pool.
class Store {
 public:
  // FAILED_PRECONDITION when the file is of a newer version. One server a file: DataDirectory holds
  // the lock.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path);
  ~Store();

  // ALREADY_EXISTS when the id is taken.
  absl::Status InsertJob(const v1::Job& job);
  // NOT_FOUND names the id.
  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  // Newest first: up to `limit` (>= 1) of those submitted before the one with sequence `below`; 0:
  // from the newest on. Jobs that come or go between two pages make no page repeat or leave out
  // others.
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter, int64_t below, int limit);
  absl::StatusOr<int64_t> CountJobs(v1::JobState state);
  // Those that have not ended, oldest first: the order of submission.
  absl::StatusOr<std::vector<v1::Job>> ListUnfinishedJobs();
  // The newest succeeded job with that fingerprint and, unless empty, that publish_as; NOT_FOUND.
  // Jobs that verify a receipt never count.
  absl::StatusOr<v1::Job> FindSucceeded(const std::string& fingerprint,
                                        const std::string& publish_as);
  // Replaces the record of a job that is there, whose spec never changes; NOT_FOUND names the id.
  absl::Status UpdateJob(const v1::Job& job);
  // With its labels and what is known of its checkpoints; models that it published stay. NOT_FOUND
  // names the id.
  absl::Status DeleteJob(const std::string& id);
  // Ids of the jobs that ended before `before` or that are not among the `keep` that ended last (0:
  // no such limit), oldest end first.
  absl::StatusOr<std::vector<std::string>> ListExpiredJobs(absl::Time before, int64_t keep);

  // Replaces the job's checkpoint of the same step, if there is one; NOT_FOUND names an unknown
  // job.
  absl::Status InsertCheckpoint(const std::string& job_id, const v1::Checkpoint& checkpoint);
  // Newest step first; empty for an unknown job.
  absl::StatusOr<std::vector<v1::Checkpoint>> ListCheckpoints(const std::string& job_id);
  // OK when there is none.
  absl::Status DeleteCheckpoint(const std::string& job_id, int64_t step);

  // Whether a blob must be kept: it is a model's weights, a data set's tensor, a job's checkpoint,
  // or what a job that has not ended starts from (initial weights, the checkpoint to verify from).
  absl::StatusOr<bool> IsBlobUsed(const std::string& sha256);

  // Publishes a model version and the job that made it, in one transaction. `version.version()` is
  // chosen here (newest + 1) and set in both.
  absl::Status PublishModel(v1::ModelVersion& version, v1::Job& job);
  // Version 0: the newest. NOT_FOUND names model and version.
  absl::StatusOr<v1::ModelVersion> GetModel(const std::string& name, int64_t version);
  // The newest version of each, by name.
  absl::StatusOr<std::vector<v1::ModelVersion>> ListModels();
  // All version numbers of a model, ascending; empty for an unknown one.
  absl::StatusOr<std::vector<int64_t>> ListModelVersions(const std::string& name);

  // What is stored from now on: `dataset`, or the record that was there with the same name and
  // digest. ALREADY_EXISTS when the name is taken by another digest.
  absl::StatusOr<v1::Dataset> InsertDataset(const v1::Dataset& dataset);
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name);
  // By name.
  absl::StatusOr<std::vector<v1::Dataset>> ListDatasets();

  // The SQL of every query that is made once a store is open, so that their plans can be checked.
  static std::vector<const char*> Statements();

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_STORE_H_
