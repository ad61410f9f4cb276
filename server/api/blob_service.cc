#include "server/api/blob_service.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;

// One upload. Reactions only post; each message is dealt with on the executor before the next one
// is asked for, so nothing here is touched by two threads at a time.
class Upload final : public grpc::ServerReadReactor<v1::WriteBlobRequest> {
 public:
  Upload(grpc::CallbackServerContext* context, Gate& gate, BlobStore& blobs,
         v1::WriteBlobResponse* response)
      : gate_(gate), call_(context, "BlobService.WriteBlob"), blobs_(blobs), response_(response) {
    if (absl::Status admitted = gate_.Admit(call_); !admitted.ok()) {
      End(admitted);
    } else {
      StartRead(&request_);
    }
  }

  void OnReadDone(bool ok) override {
    if (!gate_.executor()->Post([this, ok] { ok ? Take() : Complete(); })) {
      End(absl::ResourceExhaustedError("the server is busy; resume the upload later"));
    }
  }

  void OnDone() override { delete this; }

 private:
  void Take() {
    if (first_) {
      first_ = false;
      blob_ = request_.blob();
      absl::StatusOr<std::unique_ptr<BlobStore::Writer>> writer = blobs_.Write(blob_);
      if (absl::IsAlreadyExists(writer.status())) return Succeed();
      if (!writer.ok()) return End(writer.status());
      writer_ = *std::move(writer);
    }
    if (request_.offset() != writer_->offset()) {
      return End(absl::InvalidArgumentError(absl::StrCat("offset: must be ", writer_->offset(),
                                                         ", where the bytes held so far end, got ",
                                                         request_.offset())));
    }
    if (static_cast<int64_t>(request_.data().size()) > kChunkBytes) {
      return End(absl::InvalidArgumentError(absl::StrCat("data: must be at most ", kChunkBytes,
                                                         " bytes, got ", request_.data().size())));
    }
    if (absl::Status s = writer_->Append(request_.data()); !s.ok()) return End(s);
    StartRead(&request_);
  }

  // The client has said all, or is gone; a cancelled call is told the same and does not hear it.
  void Complete() {
    if (writer_ == nullptr) return End(absl::InvalidArgumentError("blob: missing"));
    if (absl::Status s = writer_->Commit(); !s.ok()) return End(s);
    Succeed();
  }

  void Succeed() {
    *response_->mutable_blob() = blob_;
    End(absl::OkStatus());
  }

  void End(const absl::Status& status) {
    writer_.reset();  // before the client hears of it, so that it can come back at once
    Finish(gate_.Finish(call_, status));
  }

  Gate& gate_;
  const Gate::Call call_;
  BlobStore& blobs_;
  v1::WriteBlobResponse* const response_;
  bool first_ = true;
  v1::Blob blob_;
  v1::WriteBlobRequest request_;
  std::unique_ptr<BlobStore::Writer> writer_;
};

// One download; the next chunk is read when the one before it has been taken.
class Download final : public grpc::ServerWriteReactor<v1::ReadBlobResponse> {
 public:
  Download(grpc::CallbackServerContext* context, Gate& gate, BlobStore& blobs,
           const v1::ReadBlobRequest& request)
      : gate_(gate),
        call_(context, "BlobService.ReadBlob"),
        blobs_(blobs),
        sha256_(request.sha256()),
        offset_(request.offset()) {
    if (absl::Status admitted = gate_.Admit(call_); !admitted.ok()) {
      End(admitted);
    } else {
      PostNext();
    }
  }

  void OnWriteDone(bool ok) override {
    if (ok) {
      PostNext();
    } else {
      End(absl::CancelledError("the client has gone"));
    }
  }

  void OnDone() override { delete this; }

 private:
  void PostNext() {
    if (!gate_.executor()->Post([this] { SendNext(); })) {
      End(absl::ResourceExhaustedError("the server is busy; resume the download later"));
    }
  }

  void SendNext() {
    if (reader_ == nullptr) {
      absl::StatusOr<std::unique_ptr<BlobStore::Reader>> reader = blobs_.Read(sha256_);
      if (!reader.ok()) return End(reader.status());
      reader_ = *std::move(reader);
      if (offset_ < 0 || offset_ > reader_->size_bytes()) {
        return End(absl::OutOfRangeError(
            absl::StrCat("offset: must be 0 to ", reader_->size_bytes(), ", got ", offset_)));
      }
    }
    if (offset_ == reader_->size_bytes()) return End(absl::OkStatus());
    absl::StatusOr<std::string> data = reader_->Read(offset_, kChunkBytes);
    if (!data.ok()) return End(data.status());
    if (data->empty()) return End(absl::DataLossError(absl::StrCat("blob ", sha256_, " is cut")));
    response_.set_offset(offset_);
    response_.set_total_bytes(reader_->size_bytes());
    offset_ += static_cast<int64_t>(data->size());
    response_.set_data(*std::move(data));
    StartWrite(&response_);
  }

  void End(const absl::Status& status) { Finish(gate_.Finish(call_, status)); }

  Gate& gate_;
  const Gate::Call call_;
  BlobStore& blobs_;
  const std::string sha256_;
  int64_t offset_;
  v1::ReadBlobResponse response_;
  std::unique_ptr<BlobStore::Reader> reader_;
};

}  // namespace

grpc::ServerUnaryReactor* BlobService::StatBlob(grpc::CallbackServerContext* context,
                                                const v1::StatBlobRequest* request,
                                                v1::StatBlobResponse* response) {
  return gate_.Unary(context, "BlobService.StatBlob", [=, this] {
    absl::StatusOr<v1::StatBlobResponse> found = blobs_.Stat(request->blob());
    if (found.ok()) *response = *std::move(found);
    return found.status();
  });
}

grpc::ServerReadReactor<v1::WriteBlobRequest>* BlobService::WriteBlob(
    grpc::CallbackServerContext* context, v1::WriteBlobResponse* response) {
  return new Upload(context, gate_, blobs_, response);
}

grpc::ServerWriteReactor<v1::ReadBlobResponse>* BlobService::ReadBlob(
    grpc::CallbackServerContext* context, const v1::ReadBlobRequest* request) {
  return new Download(context, gate_, blobs_, *request);
}

}  // namespace lockstep
