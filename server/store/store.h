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
  // FAILED_PRECONDITION when another server has the directory or the file is of a newer version.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path);
  virtual ~Store() = default;

  // ALREADY_EXISTS when the id is taken.
  virtual absl::Status InsertJob(const v1::Job& job) = 0;
  // NOT_FOUND names the id.
  virtual absl::StatusOr<v1::Job> GetJob(const std::string& id) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<v1::Job>> ListJobs() = 0;
  // Replaces the record of a job that is there.
  virtual absl::Status UpdateJob(const v1::Job& job) = 0;

  // Publishes a model version and the job that made it, in one transaction. `version.version()` is
  // chosen here (newest + 1) and set in both.
  virtual absl::Status PublishModel(v1::ModelVersion& version, v1::Job& job) = 0;
  // Version 0: the newest. NOT_FOUND names model and version.
  virtual absl::StatusOr<v1::ModelVersion> GetModel(const std::string& name, int64_t version) = 0;
  // The newest version of each, by name.
  virtual absl::StatusOr<std::vector<v1::ModelVersion>> ListModels() = 0;
  // All version numbers of a model, ascending; empty for an unknown one.
  virtual absl::StatusOr<std::vector<int64_t>> ListModelVersions(const std::string& name) = 0;

  // ALREADY_EXISTS when the name is taken by another digest; OK and unchanged for the same one.
  virtual absl::StatusOr<v1::Dataset> InsertDataset(const v1::Dataset& dataset) = 0;
  virtual absl::StatusOr<v1::Dataset> GetDataset(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::Dataset>> ListDatasets() = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_STORE_H_
