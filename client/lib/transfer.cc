// Whole blobs, up and down.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "core/data/digest.h"

namespace lockstep {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;

absl::StatusOr<v1::StatBlobResponse> Stat(const Connection& connection, const v1::Blob& blob) {
  grpc::ClientContext context;
  connection.PrepareUnary(context);
  v1::StatBlobRequest request;
  *request.mutable_blob() = blob;
  v1::StatBlobResponse response;
  const grpc::Status status = connection.blobs->StatBlob(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

// One stream that sends everything from `offset` on.
absl::Status WriteFrom(const Connection& connection, const v1::Blob& blob,
                       std::span<const std::byte> bytes, int64_t offset,
                       const Client::TransferProgress& progress) {
  grpc::ClientContext context;
  connection.Prepare(context);
  v1::WriteBlobResponse response;
  std::unique_ptr<grpc::ClientWriter<v1::WriteBlobRequest>> writer =
      connection.blobs->WriteBlob(&context, &response);
  v1::WriteBlobRequest request;
  *request.mutable_blob() = blob;
  const int64_t size = bytes.size();
  do {
    const int64_t length = std::min(kChunkBytes, size - offset);
    request.set_offset(offset);
    request.set_data(bytes.data() + offset, length);
    if (!writer->Write(request)) break;  // Finish() says why
    request.clear_blob();
    offset += length;
    if (progress) progress(offset, size);
  } while (offset < size);
  writer->WritesDone();
  return FromGrpc(writer->Finish());
}

}  // namespace

absl::StatusOr<v1::Blob> Client::UploadBlob(std::span<const std::byte> bytes,
                                            const TransferProgress& progress) {
  v1::Blob blob;
  blob.set_sha256(Sha256(bytes));
  blob.set_size_bytes(bytes.size());

  Retries retries(connection_->options.retry);
  int64_t resumed_at = 0;
  while (true) {
    absl::Status status;
    int64_t offset = 0;
    if (absl::StatusOr<v1::StatBlobResponse> stat = Stat(*connection_, blob); !stat.ok()) {
      status = stat.status();
    } else if (stat->complete()) {
      if (progress) progress(bytes.size(), bytes.size());
      return blob;
    } else {
      offset = stat->received_bytes();
      if (offset < 0 || offset > blob.size_bytes()) {
        return absl::InternalError(absl::StrCat("the server claims to hold ", offset,
                                                " bytes of a blob of ", blob.size_bytes()));
      }
      if (offset > resumed_at) retries.Progress();
      resumed_at = offset;
      status = WriteFrom(*connection_, blob, bytes, offset, progress);
      if (status.ok()) return blob;
    }
    // ABORTED: the server has not noticed yet that the stream before this one broke. DATA_LOSS
    // after a resumption: what was there before us was wrong, and is dropped now.
    const bool again = IsTransportFailure(status) || absl::IsAborted(status) ||
                       (absl::IsDataLoss(status) && offset > 0);
    absl::Duration pause;
    if (!again || !retries.Next(&pause)) return status;
    absl::SleepFor(pause);
  }
}

absl::Status Client::DownloadBlob(const v1::Blob& blob,
                                  const std::function<absl::Status(std::string_view)>& sink,
                                  const TransferProgress& progress) {
  Hasher hasher(Hasher::Algorithm::kSha256);
  std::unique_ptr<BlobReader> reader = ReadBlob(blob.sha256(), 0);
  int64_t received = 0;
  while (true) {
    absl::StatusOr<std::string> chunk = reader->Next();
    if (!chunk.ok()) return chunk.status();
    if (chunk->empty()) break;
    hasher.Update(*chunk);
    if (absl::Status written = sink(*chunk); !written.ok()) return written;
    received += chunk->size();
    if (progress) progress(received, reader->total_bytes());
  }
  if (received != blob.size_bytes()) {
    return absl::DataLossError(
        absl::StrCat("received ", received, " bytes of a blob of ", blob.size_bytes()));
  }
  if (const std::string digest = hasher.Finish(); digest != blob.sha256()) {
    return absl::DataLossError(
        absl::StrCat("what arrived has SHA-256 ", digest, " and not ", blob.sha256()));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
