#include "client/lib/blob_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/lib/connection.h"

namespace lockstep {

struct BlobReader::Call {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::ReadBlobResponse>> reader;
};

BlobReader::BlobReader(const Connection* connection, std::string sha256, int64_t offset)
    : connection_(connection), sha256_(std::move(sha256)), offset_(offset) {}

BlobReader::~BlobReader() {
  if (call_ != nullptr) call_->context.TryCancel();
}

absl::StatusOr<std::string> BlobReader::Next() {
  if (!pending_.empty()) return std::exchange(pending_, {});
  Retries retries(connection_->options.retry);
  while (true) {
    if (call_ == nullptr) {
      call_ = std::make_unique<Call>();
      connection_->Prepare(call_->context);
      v1::ReadBlobRequest request;
      request.set_sha256(sha256_);
      request.set_offset(offset_);
      call_->reader = connection_->blobs->ReadBlob(&call_->context, request);
    }
    v1::ReadBlobResponse response;
    while (call_->reader->Read(&response)) {
      if (response.offset() != offset_) {
        return absl::DataLossError(absl::StrCat("blob ", sha256_, ": the server sent offset ",
                                                response.offset(), " where ", offset_, " was due"));
      }
      total_bytes_ = response.total_bytes();
      offset_ += response.data().size();
      if (!response.data().empty()) return std::move(*response.mutable_data());
    }
    const absl::Status status = FromGrpc(call_->reader->Finish());
    call_ = nullptr;
    if (status.ok()) return std::string();
    absl::Duration pause;
    if (!IsTransportFailure(status) || !retries.Next(&pause)) return status;
    absl::SleepFor(pause);
  }
}

absl::StatusOr<std::string> BlobReader::Read(int64_t length) {
  std::string bytes;
  while (static_cast<int64_t>(bytes.size()) < length) {
    absl::StatusOr<std::string> chunk = Next();
    if (!chunk.ok()) return chunk.status();
    if (chunk->empty()) {
      return absl::OutOfRangeError(absl::StrCat(
          "blob ", sha256_, " ends ", length - static_cast<int64_t>(bytes.size()), " bytes early"));
    }
    const size_t wanted = length - bytes.size();
    bytes.append(*chunk, 0, wanted);
    if (chunk->size() > wanted) pending_ = chunk->substr(wanted);
  }
  return bytes;
}

}  // namespace lockstep
