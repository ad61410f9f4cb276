// The service as TensorBoard calls it, over a real connection. tests/interop has TensorBoard
// itself.

#include "server/tensorboard/data_provider.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

namespace data = ::tensorboard::data;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

TEST(PlacesTest, AreBoundedEvenlySpreadAndHaveTheNewest) {
  Places places;
  EXPECT_THAT(places.Pick(10), IsEmpty());
  for (int64_t sequence = 1; sequence <= 100'000; ++sequence) {
    places.Add({sequence, 10 * sequence, 0.5});
    if (sequence < 1000) continue;
    if (sequence % 7919 != 0) continue;
    for (const int64_t limit : {1, 2, 51, 500, 1'000'000}) {
      const std::vector<Places::Place> picked = places.Pick(limit);
      ASSERT_LE(picked.size(), std::min<size_t>(limit, 1025));
      ASSERT_EQ(picked.back().sequence, sequence);
      ASSERT_EQ(picked.back().step, 10 * sequence);
      for (size_t i = 1; i < picked.size(); ++i) {
        ASSERT_GT(picked[i].sequence, picked[i - 1].sequence);
        ASSERT_LE(picked[i].sequence - picked[i - 1].sequence,
                  3 * sequence / static_cast<int64_t>(picked.size()));
      }
    }
    EXPECT_THAT(places.Pick(0), IsEmpty());
  }
}

class DataProviderTest : public JobsTest {
 protected:
  void Serve(const std::string& token = "", int64_t max_response_bytes = 1 << 20) {
    gate_ = std::make_unique<Gate>(token, &executor_);
    curves_ = std::make_unique<JobCurves>(directory_ / "runs", manager_.get());
    service_ = std::make_unique<DataProvider>(gate_.get(), manager_.get(), curves_.get(),
                                              max_response_bytes);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = data::TensorBoardDataProvider::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  // A job with `steps` step records and a report of the weights after each; ended.
  void Train(const std::string& id, int64_t steps) {
    Submit(id);
    FakeWorker worker(manager_.get());
    const v1::ServerMessage assigned = worker.last();
    for (int64_t step = 1; step <= steps; ++step) {
      v1::WorkerMessage message;
      v1::StepRecord& record = *message.mutable_report()->add_events()->mutable_step();
      record.set_step(step);
      v1::MetricSummary& loss = *record.add_metrics();
      loss.set_name("loss");
      loss.set_mean(static_cast<double>(step) / 4);
      v1::WeightReport& weights = *message.mutable_report()->add_events()->mutable_weights();
      weights.set_epoch(step);
      weights.set_step(step);
      for (const char* name : {"w", "b"}) {
        v1::TensorHistogram& histogram = *weights.add_tensors();
        histogram.set_name(name);
        histogram.set_max(1);
        histogram.add_buckets(step);
      }
      ASSERT_TRUE(worker.Handle(assigned, std::move(message)).ok());
    }
    worker.Fail(assigned, "enough");
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (data::TensorBoardDataProvider::Stub::*)(grpc::ClientContext*,
                                                                       const Request&, Response*);
  template <typename Request, typename Response>
  Response Call(Method<Request, Response> method, const Request& request,
                grpc::StatusCode want = grpc::StatusCode::OK) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    Response response;
    const grpc::Status status = ((*stub_).*method)(&context, request, &response);
    EXPECT_EQ(status.error_code(), want) << status.error_message();
    return response;
  }
  template <typename Response>
  static std::vector<std::string> Runs(const Response& response) {
    std::vector<std::string> runs;
    for (const auto& run : response.runs()) runs.push_back(run.run_name());
    return runs;
  }
  template <typename Response>
  static std::vector<std::string> Tags(const Response& response) {
    std::vector<std::string> tags;
    for (const auto& run : response.runs()) {
      for (const auto& tag : run.tags()) tags.push_back(tag.tag_name());
    }
    return tags;
  }

  data::ListScalarsResponse ListScalars(const data::ListScalarsRequest& request,
                                        grpc::StatusCode want = grpc::StatusCode::OK) {
    return Call(&data::TensorBoardDataProvider::Stub::ListScalars, request, want);
  }
  data::ReadScalarsResponse ReadScalars(const data::ReadScalarsRequest& request,
                                        grpc::StatusCode want = grpc::StatusCode::OK) {
    return Call(&data::TensorBoardDataProvider::Stub::ReadScalars, request, want);
  }
  data::ReadTensorsResponse ReadTensors(const data::ReadTensorsRequest& request,
                                        grpc::StatusCode want = grpc::StatusCode::OK) {
    return Call(&data::TensorBoardDataProvider::Stub::ReadTensors, request, want);
  }
  std::vector<std::string> Plugins() {
    const data::ListPluginsResponse response =
        Call(&data::TensorBoardDataProvider::Stub::ListPlugins, data::ListPluginsRequest());
    std::vector<std::string> names;
    for (const data::Plugin& plugin : response.plugins()) names.push_back(plugin.name());
    return names;
  }
  template <typename Request>
  static Request About(const std::string& plugin, int64_t num_points) {
    Request request;
    request.mutable_plugin_filter()->set_plugin_name(plugin);
    request.mutable_downsample()->set_num_points(num_points);
    return request;
  }

  Executor executor_{1};
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<JobCurves> curves_;
  std::unique_ptr<DataProvider> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<data::TensorBoardDataProvider::Stub> stub_;
};

TEST_F(DataProviderTest, AFilterLeftOutIsAllAndOneWithoutNamesIsNothing) {
  Train("a", 1);
  Train("b", 1);
  Serve();
  data::ListScalarsRequest request;
  request.mutable_plugin_filter()->set_plugin_name("scalars");
  EXPECT_THAT(Runs(ListScalars(request)), UnorderedElementsAre("a", "b"));
  request.mutable_run_tag_filter()->mutable_tags()->add_names("loss");
  EXPECT_THAT(Tags(ListScalars(request)), ElementsAre("loss", "loss"));
  request.mutable_run_tag_filter()->mutable_runs()->add_names("b");
  request.mutable_run_tag_filter()->mutable_runs()->add_names("nobody");
  EXPECT_THAT(Runs(ListScalars(request)), ElementsAre("b"));
  request.mutable_run_tag_filter()->mutable_runs()->clear_names();
  EXPECT_THAT(Runs(ListScalars(request)), IsEmpty());
  request.mutable_run_tag_filter()->clear_runs();
  request.mutable_run_tag_filter()->mutable_tags()->clear_names();
  EXPECT_THAT(Runs(ListScalars(request)), IsEmpty());
}

TEST_F(DataProviderTest, WhatMakesNoSenseIsRefused) {
  Serve();
  ListScalars({}, grpc::StatusCode::INVALID_ARGUMENT);
  ReadScalars({}, grpc::StatusCode::INVALID_ARGUMENT);
  ReadTensors({}, grpc::StatusCode::INVALID_ARGUMENT);
  ReadScalars(About<data::ReadScalarsRequest>("scalars", -1), grpc::StatusCode::INVALID_ARGUMENT);
  ReadTensors(About<data::ReadTensorsRequest>("text", -1), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(DataProviderTest, ScalarsAreDownsampledToRealPointsWithTheNewest) {
  Train("a", 300);
  Serve();
  const auto points = [this](int64_t limit) {
    auto request = About<data::ReadScalarsRequest>("scalars", limit);
    request.mutable_run_tag_filter()->mutable_tags()->add_names("loss");
    return ReadScalars(request).runs(0).tags(0).data();
  };
  EXPECT_THAT(points(0).step(), IsEmpty());
  EXPECT_THAT(points(1).step(), ElementsAre(300));
  EXPECT_THAT(points(1'000'000'000'000).step(), SizeIs(300));
  const data::ScalarData some = points(20);
  ASSERT_LE(some.step_size(), 20);
  EXPECT_EQ(some.step(some.step_size() - 1), 300);
  for (int i = 0; i < some.step_size(); ++i) {
    EXPECT_EQ(some.value(i), static_cast<float>(some.step(i)) / 4);
  }
}

TEST_F(DataProviderTest, HistogramsAreReadFromTheLogWhereTheyAre) {
  Train("a", 100);
  Serve();
  auto request = About<data::ReadTensorsRequest>("histograms", 3);
  request.mutable_run_tag_filter()->mutable_tags()->add_names("weights/b");
  const data::ReadTensorsResponse response = ReadTensors(request);
  EXPECT_THAT(Tags(response), ElementsAre("weights/b"));
  const data::TensorData& tensors = response.runs(0).tags(0).data();
  EXPECT_THAT(tensors.step(), ElementsAre(1, 50, 100));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(tensors.value(i).double_val(),
                ElementsAre(0, 1, static_cast<double>(tensors.step(i))));
  }
}

TEST_F(DataProviderTest, ARunningJobIsSeenLive) {
  Submit("a");
  Serve();
  EXPECT_THAT(Plugins(), UnorderedElementsAre("text", "hparams"));
  FakeWorker worker(manager_.get());
  const v1::ServerMessage assigned = worker.last();
  for (int64_t step = 1; step <= 3; ++step) {
    worker.ReportStep(assigned, step, 0.5);
    const auto request = About<data::ReadScalarsRequest>("scalars", 1);
    EXPECT_THAT(ReadScalars(request).runs(0).tags(0).data().step(), ElementsAre(step));
  }
  EXPECT_THAT(Plugins(), UnorderedElementsAre("scalars", "text", "hparams"));
}

TEST_F(DataProviderTest, AJobThatTakesADeletedOnesIdIsAnother) {
  Train("a", 9);
  Serve();
  const auto request = About<data::ReadScalarsRequest>("scalars", 100);
  EXPECT_THAT(ReadScalars(request).runs(0).tags(0).data().step(), SizeIs(9));
  ASSERT_TRUE(manager_->Delete("a").ok());
  EXPECT_THAT(Runs(ReadScalars(request)), IsEmpty());
  Train("a", 2);
  EXPECT_THAT(ReadScalars(request).runs(0).tags(0).data().step(), SizeIs(2));
}

TEST_F(DataProviderTest, TheHundredNewestJobsAreTheRunsAndOlderOnesCanBeAskedFor) {
  Train("oldest", 1);
  for (int i = 0; i < 100; ++i) Submit("job-" + std::to_string(i));
  Serve();
  const auto runs = Call(&data::TensorBoardDataProvider::Stub::ListRuns, data::ListRunsRequest());
  EXPECT_THAT(runs.runs(), SizeIs(100));
  for (const data::Run& run : runs.runs()) EXPECT_NE(run.name(), "oldest");
  auto request = About<data::ReadScalarsRequest>("scalars", 1);
  request.mutable_run_tag_filter()->mutable_runs()->add_names("oldest");
  EXPECT_THAT(Runs(ReadScalars(request)), ElementsAre("oldest"));
}

TEST_F(DataProviderTest, AnAnswerThatWouldBeTooLargeIsRefused) {
  Train("a", 100);
  Serve("", 2000);
  ReadScalars(About<data::ReadScalarsRequest>("scalars", 1));
  ReadScalars(About<data::ReadScalarsRequest>("scalars", 100),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
  ReadTensors(About<data::ReadTensorsRequest>("histograms", 100),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(DataProviderTest, AServerWithATokenShowsNothingWithoutIt) {
  Train("a", 1);
  Serve("secret");
  EXPECT_THAT(
      ReadScalars(About<data::ReadScalarsRequest>("scalars", 1), grpc::StatusCode::UNAUTHENTICATED)
          .runs(),
      IsEmpty());
}

}  // namespace
}  // namespace lockstep
