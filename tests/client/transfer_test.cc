// Transfers go on where they broke, and nothing wrong is taken for right.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>

#include "client/lib/client.h"
#include "core/data/digest.h"
#include "lockstep/v1/blob.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

std::string Bytes(int64_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// Holds one blob, and breaks each stream after a number of messages as often as it is told to.
class FakeBlobs final : public v1::BlobService::Service {
 public:
  grpc::Status StatBlob(grpc::ServerContext*, const v1::StatBlobRequest*,
                        v1::StatBlobResponse* response) override {
    response->set_received_bytes(content.size());
    response->set_complete(complete);
    return grpc::Status::OK;
  }

  grpc::Status WriteBlob(grpc::ServerContext*, grpc::ServerReader<v1::WriteBlobRequest>* reader,
                         v1::WriteBlobResponse* response) override {
    v1::WriteBlobRequest request;
    v1::Blob blob;
    for (int messages = 0; reader->Read(&request); ++messages) {
      if (messages == 0) {
        blob = request.blob();
        write_offsets.push_back(request.offset());
      }
      if (messages == break_after && breaks-- > 0) return {break_code, "broken on purpose"};
      if (request.offset() != std::ssize(content) || std::ssize(request.data()) > kMiB) {
        return {grpc::StatusCode::INVALID_ARGUMENT, "wrong offset or length"};
      }
      content += request.data();
    }
    if (std::ssize(content) != blob.size_bytes()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "bytes are missing"};
    }
    if (Sha256(content) != blob.sha256()) {
      content.clear();
      return {grpc::StatusCode::DATA_LOSS, "wrong digest"};
    }
    complete = true;
    *response->mutable_blob() = blob;
    return grpc::Status::OK;
  }

  grpc::Status ReadBlob(grpc::ServerContext* context, const v1::ReadBlobRequest* request,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override {
    read_offsets.push_back(request->offset());
    const auto token = context->client_metadata().find("authorization");
    if (token != context->client_metadata().end()) {
      authorization.assign(token->second.data(), token->second.size());
    }
    for (int64_t offset = request->offset(), messages = 0; offset < std::ssize(content);
         ++messages) {
      if (messages == break_after && breaks-- > 0) return {break_code, "broken on purpose"};
      v1::ReadBlobResponse response;
      response.set_offset(offset);
      response.set_total_bytes(content.size());
      response.set_data(content.substr(offset, chunk));
      offset += response.data().size();
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  std::string content;
  bool complete = false;
  int64_t chunk = kMiB;
  int break_after = -1;
  int breaks = 0;
  grpc::StatusCode break_code = grpc::StatusCode::UNAVAILABLE;
  std::vector<int64_t> write_offsets, read_offsets;
  std::string authorization;
};

class TransferTest : public testing::Test {
 protected:
  // The whole blob as it was downloaded.
  absl::StatusOr<std::string> Download(const v1::Blob& blob) {
    std::string received;
    const absl::Status status = client_->DownloadBlob(
        blob,
        [&](std::string_view bytes) {
          received += bytes;
          return absl::OkStatus();
        },
        nullptr);
    if (!status.ok()) return status;
    return received;
  }

  v1::Blob BlobOf(const std::string& content) {
    v1::Blob blob;
    blob.set_sha256(Sha256(content));
    blob.set_size_bytes(content.size());
    return blob;
  }

  FakeBlobs blobs_;
  FakeServer server_{{&blobs_}};
  std::unique_ptr<Client> client_ = server_.Connect();
};

TEST_F(TransferTest, UploadTravelsInChunksOfAMebibyte) {
  const std::string content = Bytes(2 * kMiB + 17);
  std::vector<int64_t> seen;
  const auto blob = client_->UploadBlob(AsBytes(content), [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, std::ssize(content));
    seen.push_back(done);
  });
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->sha256(), Sha256(content));
  EXPECT_EQ(blobs_.content, content);
  EXPECT_THAT(seen, ElementsAre(kMiB, 2 * kMiB, std::ssize(content)));
}

TEST_F(TransferTest, EmptyBlobIsUploadedToo) {
  ASSERT_TRUE(client_->UploadBlob({}, nullptr).ok());
  EXPECT_TRUE(blobs_.complete);
}

TEST_F(TransferTest, BrokenUploadGoesOnWhereTheServerStopped) {
  const std::string content = Bytes(4 * kMiB);
  blobs_.break_after = 2;
  blobs_.breaks = 1;
  ASSERT_TRUE(client_->UploadBlob(AsBytes(content), nullptr).ok());
  EXPECT_EQ(blobs_.content, content);
  EXPECT_THAT(blobs_.write_offsets, ElementsAre(0, 2 * kMiB));
}

TEST_F(TransferTest, UploadThatAlwaysMovesOutlastsAnyNumberOfBreaks) {
  const std::string content = Bytes(8 * kMiB);
  blobs_.break_after = 1;
  blobs_.breaks = 7;  // more than the attempts without progress
  EXPECT_TRUE(client_->UploadBlob(AsBytes(content), nullptr).ok());
  EXPECT_EQ(blobs_.content, content);
}

TEST_F(TransferTest, UploadWithoutProgressGivesUp) {
  blobs_.break_after = 0;
  blobs_.breaks = 1000;
  const auto blob = client_->UploadBlob(AsBytes(Bytes(10)), nullptr);
  EXPECT_TRUE(absl::IsUnavailable(blob.status())) << blob.status();
  EXPECT_EQ(blobs_.write_offsets.size(), 4u);  // once, and three attempts more
}

TEST_F(TransferTest, WhatTheServerHoldsIsNotSentAgain) {
  blobs_.content = Bytes(kMiB);
  blobs_.complete = true;
  EXPECT_TRUE(client_->UploadBlob(AsBytes(blobs_.content), nullptr).ok());
  EXPECT_TRUE(blobs_.write_offsets.empty());
}

TEST_F(TransferTest, SomeoneElsesWrongBeginningIsReplaced) {
  const std::string content = Bytes(2 * kMiB);
  blobs_.content = std::string(kMiB, 'x');
  EXPECT_TRUE(client_->UploadBlob(AsBytes(content), nullptr).ok());
  EXPECT_EQ(blobs_.content, content);
}

TEST_F(TransferTest, RefusedUploadIsNotRetried) {
  blobs_.break_after = 0;
  blobs_.breaks = 1000;
  blobs_.break_code = grpc::StatusCode::RESOURCE_EXHAUSTED;
  const auto blob = client_->UploadBlob(AsBytes(Bytes(10)), nullptr);
  EXPECT_TRUE(absl::IsResourceExhausted(blob.status())) << blob.status();
  EXPECT_EQ(blobs_.write_offsets.size(), 1u);
}

TEST_F(TransferTest, BrokenDownloadGoesOnAtTheNextByte) {
  blobs_.content = Bytes(5000);
  blobs_.chunk = 1000;
  blobs_.break_after = 2;
  blobs_.breaks = 2;
  const auto received = Download(BlobOf(blobs_.content));
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(*received, blobs_.content);
  EXPECT_THAT(blobs_.read_offsets, ElementsAre(0, 2000, 4000));
}

TEST_F(TransferTest, WrongBytesAreDataLoss) {
  const v1::Blob blob = BlobOf(Bytes(5000));
  blobs_.content = Bytes(5000);
  blobs_.content[4321] ^= 1;
  const auto received = Download(blob);
  EXPECT_TRUE(absl::IsDataLoss(received.status())) << received.status();
  EXPECT_THAT(std::string(received.status().message()), HasSubstr(blob.sha256()));
}

TEST_F(TransferTest, MissingBytesAreDataLoss) {
  const v1::Blob blob = BlobOf(Bytes(5000));
  blobs_.content = Bytes(5000).substr(0, 4999);
  EXPECT_TRUE(absl::IsDataLoss(Download(blob).status()));
}

TEST_F(TransferTest, SinkThatFailsEndsTheDownload) {
  blobs_.content = Bytes(5000);
  const absl::Status status = client_->DownloadBlob(
      BlobOf(blobs_.content),
      [](std::string_view) { return absl::ResourceExhaustedError("disk full"); }, nullptr);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST_F(TransferTest, ReaderDeliversPiecesAcrossChunks) {
  blobs_.content = Bytes(5000);
  blobs_.chunk = 700;
  const std::unique_ptr<BlobReader> reader = client_->ReadBlob(Sha256(blobs_.content), 100);
  for (int64_t offset = 100; offset < 4900; offset += 1600) {
    EXPECT_EQ(*reader->Read(1600), blobs_.content.substr(offset, 1600));
  }
  EXPECT_TRUE(absl::IsOutOfRange(reader->Read(101).status()));
}

TEST_F(TransferTest, TokenGoesWithStreams) {
  blobs_.content = "x";
  client_ = server_.Connect(3, "secret");
  EXPECT_TRUE(Download(BlobOf("x")).ok());
  EXPECT_EQ(blobs_.authorization, "Bearer secret");
}

}  // namespace
}  // namespace lockstep
