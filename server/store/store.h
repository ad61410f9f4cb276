#ifndef LOCKSTEP_SERVER_STORE_STORE_H_
#define LOCKSTEP_SERVER_STORE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {

// The truth about jobs, data sets and models: one SQLite file (WAL, synchronous=FULL). A call that
// returns OK is durable. Thread-safe; calls may wait for the disk, so reactions of RPCs that must
// not block go through a thread pool.
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
  // Newest first.
  absl::StatusOr<std::vector<v1::Job>> ListJobs();
  // Replaces the record of a job that is there; NOT_FOUND names the id.
  absl::Status UpdateJob(const v1::Job& job);

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

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_STORE_H_
