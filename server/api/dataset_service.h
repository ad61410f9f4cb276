#ifndef LOCKSTEP_SERVER_API_DATASET_SERVICE_H_
#define LOCKSTEP_SERVER_API_DATASET_SERVICE_H_

#include "absl/status/status.h"
#include "lockstep/v1/dataset.grpc.pb.h"
#include "server/api/handler.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"

namespace lockstep {

// Everything about a data set that can be told without its blobs: name, tensors, element types,
// shapes, and that these give the sizes of the blobs. INVALID_ARGUMENT with the field's path.
absl::Status CheckDataset(const v1::Dataset& dataset);

class DatasetService final : public v1::DatasetService::CallbackService {
 public:
  // All must outlive the service.
  DatasetService(Gate* gate, Store* store, const BlobStore* blobs)
      : gate_(*gate), store_(*store), blobs_(*blobs) {}

  grpc::ServerUnaryReactor* CreateDataset(grpc::CallbackServerContext* context,
                                          const v1::CreateDatasetRequest* request,
                                          v1::Dataset* response) override;
  grpc::ServerUnaryReactor* GetDataset(grpc::CallbackServerContext* context,
                                       const v1::GetDatasetRequest* request,
                                       v1::Dataset* response) override;
  grpc::ServerUnaryReactor* ListDatasets(grpc::CallbackServerContext* context,
                                         const v1::ListDatasetsRequest* request,
                                         v1::ListDatasetsResponse* response) override;

 private:
  absl::StatusOr<v1::Dataset> Create(const v1::Dataset& given);

  Gate& gate_;
  Store& store_;
  const BlobStore& blobs_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_DATASET_SERVICE_H_
