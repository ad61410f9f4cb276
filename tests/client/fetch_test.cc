// A fetched file is whole and right, or not there; and the exit code says which.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "client/cli/commands.h"
#include "core/data/digest.h"
#include "core/keras/keras_model.h"
#include "lockstep/v1/blob.grpc.pb.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "lockstep/v1/registry.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace lockstep {
namespace {

constexpr char kWeights[] = "the weights";

class FakeJobs final : public v1::JobService::Service {
 public:
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override {
    return {grpc::StatusCode::NOT_FOUND, "no such job"};
  }
  grpc::Status GetJobWeights(grpc::ServerContext*, const v1::GetJobWeightsRequest* request,
                             v1::Weights* response) override {
    if (request->id() == "early") return {grpc::StatusCode::UNAVAILABLE, "no step is done yet"};
    if (request->id() != "job") return {grpc::StatusCode::NOT_FOUND, "no such job"};
    response->mutable_blob()->set_sha256(Sha256(std::string(kWeights)));
    response->mutable_blob()->set_size_bytes(std::string(kWeights).size());
    return grpc::Status::OK;
  }
};

class FakeModels final : public v1::ModelService::Service {
 public:
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                        v1::ModelVersion* response) override {
    if (request->name() != "model") return {grpc::StatusCode::NOT_FOUND, "no such model"};
    response->mutable_weights()->set_sha256(Sha256(std::string(kWeights)));
    response->mutable_weights()->set_size_bytes(std::string(kWeights).size());
    response->mutable_spec()->add_inputs()->set_name("numbers");
    response->mutable_spec()->mutable_inputs(0)->add_shape(3);
    response->mutable_spec()->add_layers()->set_name("flat");
    response->mutable_spec()->mutable_layers(0)->mutable_flatten();
    return grpc::Status::OK;
  }
};

class FakeBlobs final : public v1::BlobService::Service {
 public:
  grpc::Status ReadBlob(grpc::ServerContext*, const v1::ReadBlobRequest*,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override {
    v1::ReadBlobResponse response;
    response.set_data(content);
    response.set_total_bytes(content.size());
    writer->Write(response);
    return grpc::Status::OK;
  }

  std::string content = kWeights;
};

class FetchTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  ExitCode Run(const std::string& source, const std::string& output) {
    Session session({.server = server_.address(), .token_file = {}, .json = true});
    return Fetch(session, {.source = source, .output = output, .keras_json = {}});
  }
  bool IsEmpty() const { return std::filesystem::is_empty(directory_); }

  FakeJobs jobs_;
  FakeModels models_;
  FakeBlobs blobs_;
  FakeServer server_{{&jobs_, &models_, &blobs_}};
  const std::filesystem::path directory_ =
      testing::TempDir() + "/fetch_test." + std::to_string(getpid());
  const std::string output_ = directory_ / "w.safetensors";
};

TEST_F(FetchTest, JobsAndModelsAreFoundByName) {
  for (const char* source : {"job", "model", "model:3"}) {
    EXPECT_EQ(Run(source, output_), kOk) << source;
    EXPECT_EQ(*ReadFile(output_), kWeights);
    std::filesystem::remove(output_);
    EXPECT_TRUE(IsEmpty()) << "only the file itself was left";
  }
}

TEST_F(FetchTest, WritesAModelAsKerasJson) {
  Session session({.server = server_.address(), .token_file = {}, .json = true});
  const std::string json = directory_ / "model.json";
  EXPECT_EQ(Fetch(session, {.source = "model:3", .output = output_, .keras_json = json}), kOk);
  EXPECT_EQ(*ReadFile(output_), kWeights);
  const auto spec = ModelFromKeras(*ReadFile(json));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->inputs(0).name(), "numbers");
  EXPECT_EQ(spec->layers(0).name(), "flat");
  EXPECT_EQ(Fetch(session, {.source = "nobody", .output = {}, .keras_json = json}), kRefused);
}

TEST_F(FetchTest, UnknownNameIsRefused) {
  EXPECT_EQ(Run("nobody", output_), kRefused);
  EXPECT_TRUE(IsEmpty());
}

TEST_F(FetchTest, JobWithoutWeightsYetIsNoMissingServer) {
  EXPECT_EQ(Run("early", output_), kRefused);
}

TEST_F(FetchTest, WrongBytesLeaveNothingAndKeepWhatWasThere) {
  ASSERT_EQ(Run("job", output_), kOk);
  blobs_.content = "the wrights";
  EXPECT_EQ(Run("job", output_), kRefused);
  EXPECT_EQ(*ReadFile(output_), kWeights);
  EXPECT_FALSE(std::filesystem::exists(output_ + ".part"));
}

TEST_F(FetchTest, OnlyARegularFileIsReplaced) {
  const std::string pipe = directory_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(Run("job", pipe), kUsage);
  EXPECT_EQ(Run("job", directory_), kUsage);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

TEST_F(FetchTest, MissingServerHasItsOwnExitCode) {
  Session session({.server = "127.0.0.1:1", .token_file = {}, .json = false});
  EXPECT_EQ(Fetch(session, {.source = "job", .output = output_, .keras_json = {}}), kUnreachable);
}

}  // namespace
}  // namespace lockstep
