#include "server/serving/model_source.h"

#include <utility>

#include "server/store/blob_store.h"
#include "server/store/store.h"

namespace lockstep {

absl::StatusOr<ModelSource::VersionList> PublishedModels::ListVersions() {
  absl::StatusOr<std::vector<v1::ModelVersion>> newest = store_->ListModels();
  if (!newest.ok()) return newest.status();
  VersionList versions;
  for (const v1::ModelVersion& model : *newest) {
    absl::StatusOr<std::vector<int64_t>> all = store_->ListModelVersions(model.name());
    if (!all.ok()) return all.status();
    versions[model.name()] = *std::move(all);
  }
  return versions;
}

absl::StatusOr<LoadedModel> PublishedModels::Load(const std::string& name, int64_t version) {
  absl::StatusOr<v1::ModelVersion> record = store_->GetModel(name, version);
  if (!record.ok()) return record.status();
  absl::StatusOr<std::string> weights = blobs_->ReadAll(record->weights().sha256());
  if (!weights.ok()) return weights.status();
  absl::StatusOr<std::unique_ptr<const InferenceModel>> network =
      InferenceModel::Create(record->spec(), *weights);
  if (!network.ok()) return network.status();
  return LoadedModel{*std::move(record), *std::move(network)};
}

}  // namespace lockstep
