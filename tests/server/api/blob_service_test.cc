#include "server/api/blob_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/api/loopback_server.h"

namespace lockstep {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

// Not the same every megabyte, so that chunks in the wrong place are found.
std::string SomeBytes(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& c : bytes) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return bytes;
}

class BlobServiceTest : public testing::Test {
 protected:
  grpc::Status Download(const std::string& sha256, int64_t offset, std::string* bytes) {
    grpc::ClientContext context;
    v1::ReadBlobRequest request;
    request.set_sha256(sha256);
    request.set_offset(offset);
    auto reader = stub_->ReadBlob(&context, request);
    v1::ReadBlobResponse response;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.offset(), offset + static_cast<int64_t>(bytes->size()));
      EXPECT_LE(response.data().size(), size_t{1} << 20);
      bytes->append(response.data());
      EXPECT_GE(response.total_bytes(), offset + static_cast<int64_t>(bytes->size()));
    }
    return reader->Finish();
  }

  v1::StatBlobResponse Stat(const v1::Blob& blob) {
    grpc::ClientContext context;
    v1::StatBlobRequest request;
    *request.mutable_blob() = blob;
    v1::StatBlobResponse response;
    EXPECT_TRUE(stub_->StatBlob(&context, request, &response).ok());
    return response;
  }

  LoopbackServer server_;
  std::unique_ptr<v1::BlobService::Stub> stub_ = v1::BlobService::NewStub(server_.channel());
};

TEST_F(BlobServiceTest, BytesComeBackFromAnyOffset) {
  const std::string bytes = SomeBytes((3 << 20) + 17);
  const v1::Blob blob = BlobOf(bytes);
  ASSERT_TRUE(Upload(*stub_, blob, bytes).ok());
  EXPECT_TRUE(Stat(blob).complete());
  for (const int64_t offset : {int64_t{0}, int64_t{1}, int64_t{2 << 20}, blob.size_bytes()}) {
    std::string got;
    ASSERT_TRUE(Download(blob.sha256(), offset, &got).ok());
    EXPECT_TRUE(got == bytes.substr(offset)) << "from " << offset;
  }
  EXPECT_TRUE(Upload(*stub_, blob, bytes).ok()) << "once more is no harm";
}

TEST_F(BlobServiceTest, AnEmptyBlobIsABlob) {
  ASSERT_TRUE(Upload(*stub_, BlobOf(""), "").ok());
  std::string got;
  EXPECT_TRUE(Download(BlobOf("").sha256(), 0, &got).ok());
}

// A client that vanishes leaves what can be resumed, and nobody notices more of it.
TEST_F(BlobServiceTest, AnUploadGoesOnWhereAVanishedClientLeftIt) {
  const std::string bytes = SomeBytes(3 << 20);
  const v1::Blob blob = BlobOf(bytes);
  {
    grpc::ClientContext context;
    v1::WriteBlobResponse response;
    auto writer = stub_->WriteBlob(&context, &response);
    v1::WriteBlobRequest request;
    *request.mutable_blob() = blob;
    request.set_data(bytes.substr(0, 1 << 20));
    ASSERT_TRUE(writer->Write(request));
    while (Stat(blob).received_bytes() == 0) std::this_thread::yield();
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), StatusCode::CANCELLED);
  }
  // The server hears of it a moment later; until then the blob has its writer.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  grpc::Status status;
  do {
    const int64_t offset = Stat(blob).received_bytes();
    EXPECT_EQ(offset, 1 << 20);
    status = Upload(*stub_, blob, bytes.substr(offset), offset);
  } while (status.error_code() == StatusCode::ABORTED &&
           std::chrono::steady_clock::now() < deadline);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::string got;
  ASSERT_TRUE(Download(blob.sha256(), 0, &got).ok());
  EXPECT_TRUE(got == bytes);
}

TEST_F(BlobServiceTest, RefusesBadUploads) {
  const std::string bytes = SomeBytes(1000);
  const v1::Blob blob = BlobOf(bytes);

  std::string wrong = bytes;
  wrong[500] ^= 1;
  EXPECT_EQ(Upload(*stub_, blob, wrong).error_code(), StatusCode::DATA_LOSS);
  EXPECT_EQ(Stat(blob).received_bytes(), 0) << "what arrived is dropped";

  EXPECT_EQ(Upload(*stub_, blob, bytes + "x").error_code(), StatusCode::INVALID_ARGUMENT);

  grpc::Status status = Upload(*stub_, blob, bytes.substr(0, 600));
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("600 of 1000"));

  status = Upload(*stub_, blob, bytes.substr(700), 700);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("offset: must be 600"));

  const std::string large = SomeBytes((1 << 20) + 1);
  EXPECT_EQ(Upload(*stub_, BlobOf(large), large, 0, large.size()).error_code(),
            StatusCode::INVALID_ARGUMENT);
  const std::string oversized = SomeBytes(5 << 20);
  EXPECT_EQ(Upload(*stub_, BlobOf(oversized), oversized, 0, oversized.size()).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);

  grpc::ClientContext context;
  v1::WriteBlobResponse response;
  auto writer = stub_->WriteBlob(&context, &response);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), StatusCode::INVALID_ARGUMENT) << "no message at all";

  EXPECT_TRUE(Upload(*stub_, blob, bytes.substr(600), 600).ok()) << "the server goes on";
}

TEST_F(BlobServiceTest, RefusesHostileDigests) {
  for (const std::string& name : {std::string(), std::string("../../etc/passwd"),
                                  std::string(64, '/'), std::string(64, 'A')}) {
    v1::Blob blob = BlobOf("abc");
    blob.set_sha256(name);
    EXPECT_EQ(Upload(*stub_, blob, "abc").error_code(), StatusCode::INVALID_ARGUMENT);
    std::string got;
    EXPECT_EQ(Download(name, 0, &got).error_code(), StatusCode::INVALID_ARGUMENT);
    grpc::ClientContext context;
    v1::StatBlobRequest request;
    *request.mutable_blob() = blob;
    v1::StatBlobResponse response;
    EXPECT_EQ(stub_->StatBlob(&context, request, &response).error_code(),
              StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(BlobServiceTest, RefusesBadDownloads) {
  std::string got;
  EXPECT_EQ(Download(std::string(64, '0'), 0, &got).error_code(), StatusCode::NOT_FOUND);
  ASSERT_TRUE(Upload(*stub_, BlobOf("abc"), "abc").ok());
  EXPECT_EQ(Download(BlobOf("abc").sha256(), 4, &got).error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Download(BlobOf("abc").sha256(), -1, &got).error_code(), StatusCode::OUT_OF_RANGE);
}

// Clients that stop reading hold a chunk each, and no thread: others are served meanwhile.
TEST_F(BlobServiceTest, SlowReadersStopNobody) {
  const std::string bytes = SomeBytes(8 << 20);
  ASSERT_TRUE(Upload(*stub_, BlobOf(bytes), bytes).ok());
  struct SlowReader {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::ReadBlobResponse>> stream;
  };
  v1::ReadBlobRequest request;
  request.set_sha256(BlobOf(bytes).sha256());
  std::vector<std::unique_ptr<SlowReader>> slow;
  for (int i = 0; i < 32; ++i) {
    slow.push_back(std::make_unique<SlowReader>());
    slow.back()->stream = stub_->ReadBlob(&slow.back()->context, request);
    v1::ReadBlobResponse first;
    ASSERT_TRUE(slow.back()->stream->Read(&first));
  }
  std::string got;
  ASSERT_TRUE(Download(BlobOf(bytes).sha256(), 0, &got).ok());
  EXPECT_TRUE(got == bytes);
  for (auto& reader : slow) {
    reader->context.TryCancel();
    reader->stream->Finish();
  }
}

TEST(BlobServiceToken, IsAskedOfEveryCall) {
  LoopbackServer server("secret");
  auto stub = v1::BlobService::NewStub(server.channel());
  for (const char* authorization : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2",
                                    "bearer secret", "secret", "Basic secret"}) {
    v1::StatBlobRequest stat;
    *stat.mutable_blob() = BlobOf("abc");
    v1::StatBlobResponse stat_response;
    grpc::ClientContext stat_context, write_context, read_context;
    for (grpc::ClientContext* context : {&stat_context, &write_context, &read_context}) {
      if (*authorization != '\0') context->AddMetadata("authorization", authorization);
    }
    EXPECT_EQ(stub->StatBlob(&stat_context, stat, &stat_response).error_code(),
              StatusCode::UNAUTHENTICATED)
        << authorization;
    v1::WriteBlobResponse write_response;
    EXPECT_EQ(stub->WriteBlob(&write_context, &write_response)->Finish().error_code(),
              StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(stub->ReadBlob(&read_context, v1::ReadBlobRequest())->Finish().error_code(),
              StatusCode::UNAUTHENTICATED);
  }
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer secret");
  v1::StatBlobRequest request;
  *request.mutable_blob() = BlobOf("abc");
  v1::StatBlobResponse response;
  EXPECT_TRUE(stub->StatBlob(&context, request, &response).ok());
}

}  // namespace
}  // namespace lockstep
