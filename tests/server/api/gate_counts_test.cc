#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lockstep/v1/blob.grpc.pb.h"
#include "lockstep/v1/dataset.grpc.pb.h"
#include "server/api/handler.h"
#include "tests/server/api/loopback_server.h"
#include "tests/server/telemetry/figure.h"

namespace lockstep {
namespace {

TEST(GateCountsTest, CountsEveryCallOnceWithItsCodeAndBytes) {
  LoopbackServer server;
  auto datasets = v1::DatasetService::NewStub(server.channel());
  v1::GetDatasetRequest request;
  request.set_name("unknown");
  for (int call = 0; call < 3; ++call) {
    grpc::ClientContext context;
    v1::Dataset response;
    EXPECT_EQ(datasets->GetDataset(&context, request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
  const auto figure = [&server](const std::string& series) {
    return Figure(server.metrics(), series);
  };
  EXPECT_EQ(figure("lockstep_rpcs_total{code=\"NOT_FOUND\",method=\"DatasetService.GetDataset\"}"),
            3);
  EXPECT_EQ(figure("lockstep_rpc_seconds_count{method=\"DatasetService.GetDataset\"}"), 3);
  EXPECT_EQ(figure("lockstep_rpc_received_bytes_total{method=\"DatasetService.GetDataset\"}"),
            3.0 * static_cast<double>(request.ByteSizeLong()));
  EXPECT_EQ(figure("lockstep_rpc_sent_bytes_total{method=\"DatasetService.GetDataset\"}"), 0);
}

TEST(GateCountsTest, CountsTheMessagesOfStreams) {
  const std::string bytes(3'000'000, 'x');
  LoopbackServer server;
  auto blobs = v1::BlobService::NewStub(server.channel());
  ASSERT_TRUE(Upload(*blobs, BlobOf(bytes), bytes).ok());
  grpc::ClientContext context;
  v1::ReadBlobRequest request;
  request.set_sha256(BlobOf(bytes).sha256());
  auto reader = blobs->ReadBlob(&context, request);
  v1::ReadBlobResponse chunk;
  while (reader->Read(&chunk)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  for (const char* series : {"lockstep_rpc_received_bytes_total{method=\"BlobService.WriteBlob\"}",
                             "lockstep_rpc_sent_bytes_total{method=\"BlobService.ReadBlob\"}"}) {
    const double counted = Figure(server.metrics(), series);
    EXPECT_GE(counted, 3'000'000) << series;
    EXPECT_LT(counted, 3'001'000) << series;
  }
}

TEST(GateCountsTest, CountsWhomItTurnsAway) {
  LoopbackServer server("secret");
  auto datasets = v1::DatasetService::NewStub(server.channel());
  grpc::ClientContext context;
  v1::Dataset response;
  EXPECT_EQ(datasets->GetDataset(&context, {}, &response).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(
      Figure(server.metrics(),
             "lockstep_rpcs_total{code=\"UNAUTHENTICATED\",method=\"DatasetService.GetDataset\"}"),
      1);
}

}  // namespace
}  // namespace lockstep
