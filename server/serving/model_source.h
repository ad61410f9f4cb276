#ifndef LOCKSTEP_SERVER_SERVING_MODEL_SOURCE_H_
#define LOCKSTEP_SERVER_SERVING_MODEL_SOURCE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/inference/inference_model.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {

class BlobStore;
class Store;

struct LoadedModel {
  v1::ModelVersion record;
  std::unique_ptr<const InferenceModel> network;
};

// Where the models to serve come from. Calls may wait for the disk; one at a time.
class ModelSource {
 public:
  using VersionList = std::map<std::string, std::vector<int64_t>>;

  virtual ~ModelSource() = default;
  // Every model with all its versions.
  virtual absl::StatusOr<VersionList> ListVersions() = 0;
  virtual absl::StatusOr<LoadedModel> Load(const std::string& name, int64_t version) = 0;
};

// The models that jobs have published: records in the store, weights among the blobs.
class PublishedModels : public ModelSource {
 public:
  // Both must outlive it.
  PublishedModels(Store* store, BlobStore* blobs) : store_(store), blobs_(blobs) {}

  absl::StatusOr<VersionList> ListVersions() override;
  absl::StatusOr<LoadedModel> Load(const std::string& name, int64_t version) override;

 private:
  Store* const store_;
  BlobStore* const blobs_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_MODEL_SOURCE_H_
