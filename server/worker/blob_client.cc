#include "server/worker/blob_client.h"

#include <grpcpp/client_context.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lockstep {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

absl::Status ToAbsl(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace

BlobClient::BlobClient(const std::shared_ptr<grpc::Channel>& channel)
    : stub_(v1::BlobService::NewStub(channel)) {}

void BlobClient::SetToken(const std::string& token) {
  absl::MutexLock lock(&mu_);
  authorization_ = absl::StrCat("Bearer ", token);
}

std::string BlobClient::Authorization() const {
  absl::MutexLock lock(&mu_);
  return authorization_;
}

absl::Status BlobClient::Fetch(const std::string& sha256, int64_t offset,
                               absl::FunctionRef<absl::Status(std::string_view)> sink) {
  grpc::ClientContext context;
  context.AddMetadata("authorization", Authorization());
  v1::ReadBlobRequest request;
  request.set_sha256(sha256);
  request.set_offset(offset);
  const auto reader = stub_->ReadBlob(&context, request);
  v1::ReadBlobResponse response;
  while (reader->Read(&response)) {
    if (absl::Status status = sink(response.data()); !status.ok()) {
      context.TryCancel();
      reader->Finish();
      return status;
    }
  }
  return ToAbsl(reader->Finish());
}

absl::Status BlobClient::Upload(const v1::Blob& blob, std::string_view bytes) {
  // Jobs with the same result upload the same blob: whoever comes second waits for the first.
  constexpr absl::Duration kPause = absl::Milliseconds(100);
  constexpr int kTries = 600;
  absl::Status status;
  for (int i = 0; i < kTries; ++i) {
    status = UploadOnce(blob, bytes);
    if (absl::IsAlreadyExists(status)) return absl::OkStatus();
    if (!absl::IsAborted(status)) return status;
    absl::SleepFor(kPause);
  }
  return status;
}

absl::Status BlobClient::UploadOnce(const v1::Blob& blob, std::string_view bytes) {
  v1::StatBlobResponse have;
  {
    grpc::ClientContext context;
    context.AddMetadata("authorization", Authorization());
    v1::StatBlobRequest request;
    *request.mutable_blob() = blob;
    if (grpc::Status status = stub_->StatBlob(&context, request, &have); !status.ok()) {
      return ToAbsl(status);
    }
  }
  if (have.complete()) return absl::OkStatus();

  grpc::ClientContext context;
  context.AddMetadata("authorization", Authorization());
  v1::WriteBlobResponse response;
  const auto writer = stub_->WriteBlob(&context, &response);
  size_t offset = static_cast<size_t>(have.received_bytes());
  v1::WriteBlobRequest request;
  *request.mutable_blob() = blob;
  do {
    const std::string_view piece = bytes.substr(offset, kChunkBytes);
    request.set_offset(static_cast<int64_t>(offset));
    request.set_data(piece.data(), piece.size());
    if (!writer->Write(request)) break;  // Finish() says why
    request.clear_blob();
    offset += piece.size();
  } while (offset < bytes.size());
  writer->WritesDone();
  return ToAbsl(writer->Finish());
}

}  // namespace lockstep
