#ifndef LOCKSTEP_SERVER_API_BLOB_SERVICE_H_
#define LOCKSTEP_SERVER_API_BLOB_SERVICE_H_

#include "lockstep/v1/blob.grpc.pb.h"
#include "server/api/handler.h"
#include "server/store/blob_store.h"

namespace lockstep {

// Uploads and downloads of blobs. A call holds one chunk at a time, whatever its client does.
class BlobService final : public v1::BlobService::CallbackService {
 public:
  // Both must outlive the service.
  BlobService(Gate* gate, BlobStore* blobs) : gate_(*gate), blobs_(*blobs) {}

  grpc::ServerUnaryReactor* StatBlob(grpc::CallbackServerContext* context,
                                     const v1::StatBlobRequest* request,
                                     v1::StatBlobResponse* response) override;
  grpc::ServerReadReactor<v1::WriteBlobRequest>* WriteBlob(
      grpc::CallbackServerContext* context, v1::WriteBlobResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadBlobResponse>* ReadBlob(
      grpc::CallbackServerContext* context, const v1::ReadBlobRequest* request) override;

 private:
  Gate& gate_;
  BlobStore& blobs_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_BLOB_SERVICE_H_
