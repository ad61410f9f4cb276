// What the door of a listener says about the calls that go through it: to clients where the
// dashboard is, to operators which failed, and in whose trace.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lockstep/v1/blob.grpc.pb.h"
#include "lockstep/v1/dataset.grpc.pb.h"
#include "tests/server/api/loopback_server.h"
#include "tests/server/telemetry/captured_log.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kTraceparent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kTrace[] = "trace_id=0af7651916cd43dd8448eb211c80319c";

using Metadata = std::vector<std::pair<std::string, std::string>>;

// Asks for a data set that is not there; returns what the reply said about the dashboard.
std::optional<std::string> GetAbsent(const LoopbackServer& server, const Metadata& metadata = {}) {
  const auto stub = v1::DatasetService::NewStub(server.channel());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  v1::GetDatasetRequest request;
  request.set_name("absent");
  v1::Dataset response;
  EXPECT_FALSE(stub->GetDataset(&context, request, &response).ok());
  const auto& told = context.GetServerInitialMetadata();
  const auto entry = told.find("x-lockstep-dashboard");
  if (entry == told.end()) return std::nullopt;
  return std::string(entry->second.data(), entry->second.size());
}

// And for a blob likewise, which is a stream.
std::optional<std::string> ReadAbsent(const LoopbackServer& server, const Metadata& metadata = {}) {
  const auto stub = v1::BlobService::NewStub(server.channel());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  v1::ReadBlobRequest request;
  request.set_sha256(std::string(64, 'a'));
  v1::ReadBlobResponse response;
  const auto reader = stub->ReadBlob(&context, request);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_FALSE(reader->Finish().ok());
  const auto& told = context.GetServerInitialMetadata();
  const auto entry = told.find("x-lockstep-dashboard");
  if (entry == told.end()) return std::nullopt;
  return std::string(entry->second.data(), entry->second.size());
}

TEST(GateTest, WhomItAdmitsItTellsWhereTheDashboardIs) {
  const LoopbackServer server("secret", "http://:8002");
  const Metadata token = {{"authorization", "Bearer secret"}};
  EXPECT_EQ(GetAbsent(server, token), "http://:8002");
  EXPECT_EQ(ReadAbsent(server, token), "http://:8002");
  EXPECT_EQ(GetAbsent(server), std::nullopt) << "without the token";
  EXPECT_EQ(ReadAbsent(server), std::nullopt) << "without the token";
  EXPECT_EQ(GetAbsent(LoopbackServer("", "")), std::nullopt) << "there is none";
}

TEST(GateTest, EachFailedCallIsALineWithIdsOfItsOwn) {
  CapturedLog log(LogFormat::kText);
  {
    const LoopbackServer server;
    GetAbsent(server, {{"traceparent", kTraceparent}});
    ReadAbsent(server, {{"traceparent", kTraceparent}});
    GetAbsent(server);
  }
  const std::vector<std::string> lines = log.Lines();
  ASSERT_THAT(
      lines,
      ElementsAre(
          AllOf(HasSubstr(" info rpc failed rpc="),
                HasSubstr(" method=DatasetService.GetDataset code=NOT_FOUND ms="),
                HasSubstr(" peer=ipv4:127.0.0.1:"), HasSubstr(kTrace), HasSubstr(" error=\"")),
          AllOf(HasSubstr(" method=BlobService.ReadBlob code=NOT_FOUND ms="), HasSubstr(kTrace)),
          AllOf(HasSubstr(" method=DatasetService.GetDataset"), Not(HasSubstr("trace_id")))));
  const auto id = [](const std::string& line) {
    const size_t begin = line.find(" rpc=");
    return line.substr(begin, line.find(' ', begin + 1) - begin);
  };
  EXPECT_NE(id(lines[0]), id(lines[1]));
  EXPECT_NE(id(lines[0]), id(lines[2]));
}

TEST(GateTest, OfSeveralTraceparentsOrABadOneNoneCounts) {
  CapturedLog log(LogFormat::kText);
  {
    const LoopbackServer server;
    GetAbsent(server, {{"traceparent", kTraceparent}, {"traceparent", kTraceparent}});
    GetAbsent(server, {{"traceparent", std::string(kTraceparent) + "-"}});
  }
  EXPECT_THAT(log.Lines(), ElementsAre(Not(HasSubstr("trace_id")), Not(HasSubstr("trace_id"))));
}

TEST(GateTest, CallsThatGoWellAreNotLogged) {
  CapturedLog log(LogFormat::kText);
  {
    const LoopbackServer server;
    const auto stub = v1::DatasetService::NewStub(server.channel());
    grpc::ClientContext context;
    v1::ListDatasetsResponse response;
    EXPECT_TRUE(stub->ListDatasets(&context, v1::ListDatasetsRequest(), &response).ok());
  }
  EXPECT_THAT(log.Lines(), IsEmpty());
}

}  // namespace
}  // namespace lockstep
