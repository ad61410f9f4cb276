#include "server/worker/blob_client.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
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

void BlobClient::Interrupt() {
  absl::MutexLock lock(&mu_);
  interrupted_ = true;
  for (grpc::ClientContext* context : calls_) context->TryCancel();
}

void BlobClient::Resume() {
  absl::MutexLock lock(&mu_);
  interrupted_ = false;
}

// The context of a call that Interrupt breaks off, also before it has begun.
class BlobClient::Call {
 public:
  explicit Call(BlobClient& client) : client_(client) {
    absl::MutexLock lock(&client_.mu_);
    context_.AddMetadata("authorization", client_.authorization_);
    if (client_.interrupted_) context_.TryCancel();
    client_.calls_.insert(&context_);
  }
  ~Call() {
    absl::MutexLock lock(&client_.mu_);
    client_.calls_.erase(&context_);
  }
  grpc::ClientContext* context() { return &context_; }

 private:
  BlobClient& client_;
  grpc::ClientContext context_;
};

absl::Status BlobClient::Fetch(const std::string& sha256, int64_t offset,
                               absl::FunctionRef<absl::Status(std::string_view)> sink) {
  Call call(*this);
  v1::ReadBlobRequest request;
  request.set_sha256(sha256);
  request.set_offset(offset);
  const auto reader = stub_->ReadBlob(call.context(), request);
  v1::ReadBlobResponse response;
  while (reader->Read(&response)) {
    if (absl::Status status = sink(response.data()); !status.ok()) {
      call.context()->TryCancel();
      reader->Finish();
      return status;
    }
  }
  const absl::Status status = ToAbsl(reader->Finish());
  // Of a server that has too much to do just now; here it means this machine's disk.
  if (absl::IsResourceExhausted(status)) return absl::UnavailableError(status.message());
  return status;
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
    absl::MutexLock lock(&mu_);
    if (mu_.AwaitWithTimeout(absl::Condition(&interrupted_), kPause)) {
      return absl::CancelledError("the assignment has ended");
    }
  }
  return status;
}

absl::Status BlobClient::UploadOnce(const v1::Blob& blob, std::string_view bytes) {
  v1::StatBlobResponse have;
  {
    Call call(*this);
    v1::StatBlobRequest request;
    *request.mutable_blob() = blob;
    if (grpc::Status status = stub_->StatBlob(call.context(), request, &have); !status.ok()) {
      return ToAbsl(status);
    }
  }
  if (have.complete()) return absl::OkStatus();

  Call call(*this);
  v1::WriteBlobResponse response;
  const auto writer = stub_->WriteBlob(call.context(), &response);
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
