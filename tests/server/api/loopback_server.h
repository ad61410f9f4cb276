#ifndef LOCKSTEP_TESTS_SERVER_API_LOOPBACK_SERVER_H_
#define LOCKSTEP_TESTS_SERVER_API_LOOPBACK_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "server/api/blob_service.h"
#include "server/api/dataset_service.h"
#include "server/api/handler.h"
#include "server/api/model_service.h"
#include "server/store/blob_store.h"
#include "server/store/store.h"
#include "tests/temporary_directory.h"

namespace lockstep {

// The data services on a port of loopback. (gRPC 1.51's in-process transport leaves a client that
// writes to a call which has already ended waiting for ever, so it cannot stand in for a port.)
class LoopbackServer {
 public:
  explicit LoopbackServer(const std::string& token = "", const std::string& dashboard = "")
      : gate_(token, &executor_, dashboard) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&blob_service_);
    builder.RegisterService(&dataset_service_);
    builder.RegisterService(&model_service_);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                   grpc::InsecureChannelCredentials());
  }

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<Store> store_ = *Store::Open(directory_ / "lockstep.db");
  std::unique_ptr<BlobStore> blobs_ = *BlobStore::Open(directory_ / "blobs");
  Executor executor_{2};
  Gate gate_;
  BlobService blob_service_{&gate_, blobs_.get()};
  DatasetService dataset_service_{&gate_, store_.get(), blobs_.get()};
  ModelService model_service_{&gate_, store_.get()};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

inline v1::Blob BlobOf(const std::string& bytes) {
  v1::Blob blob;
  blob.set_sha256(Sha256(bytes));
  blob.set_size_bytes(static_cast<int64_t>(bytes.size()));
  return blob;
}

// One whole upload, in chunks.
inline grpc::Status Upload(v1::BlobService::Stub& stub, const v1::Blob& blob,
                           const std::string& bytes, int64_t offset = 0,
                           size_t chunk_bytes = 1 << 20) {
  grpc::ClientContext context;
  v1::WriteBlobResponse response;
  auto writer = stub.WriteBlob(&context, &response);
  v1::WriteBlobRequest request;
  *request.mutable_blob() = blob;
  for (size_t sent = 0; sent == 0 || sent < bytes.size(); sent += chunk_bytes) {
    request.set_offset(offset + static_cast<int64_t>(sent));
    request.set_data(bytes.substr(sent, chunk_bytes));
    if (!writer->Write(request)) break;
    request.clear_blob();
  }
  writer->WritesDone();
  return writer->Finish();
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_API_LOOPBACK_SERVER_H_
