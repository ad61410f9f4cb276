#include "server/serving/inference_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <future>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "tests/server/serving/puppets.h"
#include "tests/server/telemetry/figure.h"

namespace lockstep {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMaxResponseBytes = 1200;  // 100 rows of PuppetNetwork

const std::vector<float> kRow = {1, 2};

std::string Bytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

// Two samples for model "m" as tritonclient sends them.
ModelInferRequest RawRequest() {
  auto request = Parse<ModelInferRequest>(R"pb(
    model_name: "m"
    inputs {
      name: "input"
      datatype: "FP32"
      shape: [ 2, 2 ]
    })pb");
  request.add_raw_input_contents(Bytes({1, 2, 3, 5}));
  return request;
}

ModelInferRequest TypedRequest() {
  return Parse<ModelInferRequest>(R"pb(
    model_name: "m"
    inputs {
      name: "input"
      datatype: "FP32"
      shape: [ 2, 2 ]
      contents { fp32_contents: [ 1, 2, 3, 5 ] }
    })pb");
}

class InferenceServiceTest : public ::testing::Test {
 protected:
  InferenceServiceTest() { Start({}); }

  void Start(const ModelRepository::Options& options) {
    server_.reset();
    service_.reset();
    repository_.reset();
    repository_ = *ModelRepository::Start(&source_, options);
    service_ = std::make_unique<InferenceService>(&gate_, repository_.get(), kMaxResponseBytes);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = inference::GRPCInferenceService::NewStub(server_->InProcessChannel({}));
  }
  ~InferenceServiceTest() override { server_->Shutdown(); }

  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse* response = nullptr) {
    grpc::ClientContext context;
    ModelInferResponse ignored;
    return stub_->ModelInfer(&context, request, response == nullptr ? &ignored : response);
  }

  Executor executor_{1};
  Metrics metrics_;
  Gate gate_{"", &executor_, "", &metrics_};
  PuppetSource source_{{{"m", {1, 3}}, {"broken", {1}}}};
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
};

TEST_F(InferenceServiceTest, RawInputsGetRawOutputs) {
  ModelInferRequest request = RawRequest();
  request.set_id("a-7");
  ModelInferResponse response;
  const grpc::Status status = Infer(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_name(), "m");
  EXPECT_EQ(response.model_version(), "3") << "the newest, by number";
  EXPECT_EQ(response.id(), "a-7");
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs(0).name(), "output");
  EXPECT_EQ(response.outputs(0).datatype(), "FP32");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2, 3));
  EXPECT_FALSE(response.outputs(0).has_contents());
  ASSERT_EQ(response.raw_output_contents_size(), 1);
  EXPECT_THAT(Floats(response.raw_output_contents(0)), ElementsAre(3, -1, 3, 8, -2, 3));
}

TEST_F(InferenceServiceTest, TypedInputsGetTypedOutputs) {
  ModelInferResponse response;
  const grpc::Status status = Infer(TypedRequest(), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.raw_output_contents_size(), 0);
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_THAT(response.outputs(0).contents().fp32_contents(), ElementsAre(3, -1, 3, 8, -2, 3));
}

TEST_F(InferenceServiceTest, ARequestWithoutSamplesIsAnswered) {
  ModelInferRequest request = RawRequest();
  request.mutable_inputs(0)->set_shape(0, 0);
  request.set_raw_input_contents(0, "");
  ModelInferResponse response;
  const grpc::Status status = Infer(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(0, 3));
  EXPECT_THAT(response.raw_output_contents(), ElementsAre(""));
}

TEST_F(InferenceServiceTest, AnOlderVersionAndTheOutputCanBeNamed) {
  ModelInferRequest request = RawRequest();
  request.set_model_version("1");
  request.add_outputs()->set_name("output");
  ModelInferResponse response;
  const grpc::Status status = Infer(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_THAT(Floats(response.raw_output_contents(0)), ElementsAre(3, -1, 1, 8, -2, 1));
}

TEST_F(InferenceServiceTest, NonFiniteInputsAreComputedAsTheyAre) {
  const float infinity = std::numeric_limits<float>::infinity();
  ModelInferRequest request = RawRequest();
  request.set_raw_input_contents(0, Bytes({infinity, 1, -infinity, 1}));
  ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_THAT(Floats(response.raw_output_contents(0)),
              ElementsAre(infinity, infinity, 3, -infinity, -infinity, 3));
}

struct Refusal {
  const char* name;
  ModelInferRequest (*base)();
  void (*spoil)(ModelInferRequest& request);
  grpc::StatusCode code;
  const char* message;
};

const Refusal kRefusals[] = {
    {"BothContentsAndRaw", TypedRequest,
     [](ModelInferRequest& r) { r.add_raw_input_contents("1234"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "contents field must not be specified when using raw_input_contents for input 'input' for "
     "model 'm'"},
    {"NoData", RawRequest, [](ModelInferRequest& r) { r.clear_raw_input_contents(); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "unable to find data for input tensor 'input' for model 'm' in request."},
    {"MoreRawEntriesThanInputs", RawRequest,
     [](ModelInferRequest& r) { r.add_raw_input_contents(""); }, grpc::StatusCode::INVALID_ARGUMENT,
     "got 2 raw_input_contents"},
    {"TypedFieldOfAnotherType", TypedRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->mutable_contents()->clear_fp32_contents();
       r.mutable_inputs(0)->mutable_contents()->add_int64_contents(1);
     },
     grpc::StatusCode::INVALID_ARGUMENT,
     "unexpected explicit tensor data for input tensor 'input' for model 'm' of type 'INT64', "
     "expected datatype 'FP32'"},
    {"NoInput", RawRequest, [](ModelInferRequest& r) { r.clear_inputs(); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "expected 1 inputs but got 0 inputs for model 'm'; required input(s) ['input']"},
    {"TwoInputs", RawRequest, [](ModelInferRequest& r) { *r.add_inputs() = r.inputs(0); },
     grpc::StatusCode::INVALID_ARGUMENT, "expected 1 inputs but got 2 inputs for model 'm'"},
    {"UnknownInput", RawRequest, [](ModelInferRequest& r) { r.mutable_inputs(0)->set_name("x"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "unexpected inference input 'x' for model 'm', missing required input(s) ['input']"},
    {"WrongDatatype", RawRequest,
     [](ModelInferRequest& r) { r.mutable_inputs(0)->set_datatype("UINT8"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "inference input 'input' data-type is 'UINT8', but model 'm' expects 'FP32'"},
    {"NoBatchDimension", RawRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->mutable_shape()->Clear();
       r.mutable_inputs(0)->add_shape(2);
     },
     grpc::StatusCode::INVALID_ARGUMENT,
     "unexpected shape for input 'input' for model 'm'. Expected [-1,2], got [2]"},
    {"NoShape", RawRequest,
     [](ModelInferRequest& r) { r.mutable_inputs(0)->mutable_shape()->Clear(); },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected [-1,2], got []"},
    {"AnotherShapeOfTheSameSize", RawRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, 1);
       r.mutable_inputs(0)->set_shape(1, 4);
     },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected [-1,2], got [1,4]"},
    {"NegativeDimension", RawRequest,
     [](ModelInferRequest& r) { r.mutable_inputs(0)->set_shape(0, -2); },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected [-1,2], got [-2,2]"},
    {"ShapeThatOverflows", RawRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, std::numeric_limits<int64_t>::max());
     },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected [-1,2], got [9223372036854775807,2]"},
    {"ByteSizeThatWouldWrapToNothing", RawRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, int64_t{1} << 61);
       r.set_raw_input_contents(0, "");
     },
     grpc::StatusCode::INVALID_ARGUMENT, "input byte size mismatch"},
    {"TooFewRawBytes", RawRequest,
     [](ModelInferRequest& r) { r.set_raw_input_contents(0, "123456789012"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "input byte size mismatch for input 'input' for model 'm'. Expected 4 x 4, got 12"},
    {"HalfAFloat", RawRequest,
     [](ModelInferRequest& r) { r.mutable_raw_input_contents(0)->append("12"); },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected 4 x 4, got 18"},
    {"TooManyTypedValues", TypedRequest,
     [](ModelInferRequest& r) { r.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1); },
     grpc::StatusCode::INVALID_ARGUMENT, "Expected 4 x 4, got 20"},
    {"UnknownOutput", RawRequest, [](ModelInferRequest& r) { r.add_outputs()->set_name("y"); },
     grpc::StatusCode::INVALID_ARGUMENT, "unexpected inference output 'y' for model 'm'"},
    {"Classification", RawRequest,
     [](ModelInferRequest& r) {
       auto& output = *r.add_outputs();
       output.set_name("output");
       (*output.mutable_parameters())["classification"].set_int64_param(1);
     },
     grpc::StatusCode::UNIMPLEMENTED, "'classification' is not supported"},
    {"SharedMemory", RawRequest,
     [](ModelInferRequest& r) {
       (*r.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("s");
     },
     grpc::StatusCode::UNIMPLEMENTED, "shared memory is not supported"},
    {"AnswerTooLarge", RawRequest,
     [](ModelInferRequest& r) {
       r.mutable_inputs(0)->set_shape(0, 101);
       r.set_raw_input_contents(0, std::string(101 * 2 * 4, '\0'));
     },
     grpc::StatusCode::INVALID_ARGUMENT,
     "Response has byte size 101 x 12, which exceeds the limit of 1200 bytes"},
    {"UnknownModel", RawRequest, [](ModelInferRequest& r) { r.set_model_name("n"); },
     grpc::StatusCode::NOT_FOUND, "'n' is not found"},
    {"UnknownVersion", RawRequest, [](ModelInferRequest& r) { r.set_model_version("2"); },
     grpc::StatusCode::NOT_FOUND, "version 2 is not found"},
    {"VersionZero", RawRequest, [](ModelInferRequest& r) { r.set_model_version("0"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "failed to get model version from specified version string '0'"},
    {"VersionThatIsNoNumber", RawRequest,
     [](ModelInferRequest& r) { r.set_model_version("latest"); },
     grpc::StatusCode::INVALID_ARGUMENT,
     "failed to get model version from specified version string 'latest'"},
    {"LongNames", RawRequest,
     [](ModelInferRequest& r) { r.mutable_inputs(0)->set_name(std::string(1 << 20, 'x')); },
     grpc::StatusCode::INVALID_ARGUMENT, "xxx...' for model 'm'"},
};

using RefusalTest = InferenceServiceTest;

TEST_F(RefusalTest, EachHasItsStatusAndMessage) {
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.name);
    ModelInferRequest request = refusal.base();
    refusal.spoil(request);
    const grpc::Status status = Infer(request);
    EXPECT_EQ(status.error_code(), refusal.code);
    EXPECT_THAT(status.error_message(), HasSubstr(refusal.message));
  }
  EXPECT_THAT(source_.strings.Passes(), ElementsAre()) << "nothing was computed for them";
  EXPECT_TRUE(Infer(RawRequest()).ok()) << "and the server goes on";
}

TEST_F(InferenceServiceTest, AModelThatCannotBeLoadedIsUnavailableAndNotReady) {
  source_.Break("broken:1", absl::DataLossError("weights are damaged"));
  Start({});
  ModelInferRequest request = RawRequest();
  request.set_model_name("broken");
  const grpc::Status status = Infer(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("'broken' version 1 is not at ready state"),
                                            HasSubstr("weights are damaged")));

  grpc::ClientContext model_context, server_context;
  inference::ModelReadyRequest model_request;
  model_request.set_name("broken");
  inference::ModelReadyResponse model;
  ASSERT_TRUE(stub_->ModelReady(&model_context, model_request, &model).ok());
  EXPECT_FALSE(model.ready());
  inference::ServerReadyResponse server;
  ASSERT_TRUE(stub_->ServerReady(&server_context, {}, &server).ok());
  EXPECT_FALSE(server.ready());
}

TEST_F(InferenceServiceTest, AFullQueueIsResourceExhaustedAtOnce) {
  Start({.batcher = {.max_queued_requests = 1}});
  ASSERT_TRUE(Infer(RawRequest()).ok());
  ModelRepository::Handle model;
  repository_->Find("m", 0, [&](absl::StatusOr<ModelRepository::Handle> found) { model = *found; });
  const auto occupy = [&] {
    model->batcher->Submit({.samples = 1,
                            .x = {std::as_bytes(std::span(kRow))},
                            .wanted = [] { return absl::OkStatus(); },
                            .done = [](Batcher::Answer) {}});
  };
  source_.strings.turnstile.Close();
  occupy();
  source_.strings.turnstile.AwaitArrival();
  occupy();  // takes the only place in the queue
  const grpc::Status status = Infer(RawRequest());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("queue is full"));
  source_.strings.turnstile.Open();
}

TEST_F(InferenceServiceTest, WhoHasGoneCostsNoForwardPass) {
  // The client's end and the word of it that reaches the server race with the batch thread; the
  // server must win some round.
  bool computed = true;
  for (int round = 0; computed && round < 100; ++round) {
    source_.strings.turnstile.Close();
    auto computing = std::async(std::launch::async, [&] { return Infer(RawRequest()); });
    source_.strings.turnstile.AwaitArrival();
    const size_t before = source_.strings.Passes().size();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    ModelInferResponse response;
    EXPECT_EQ(stub_->ModelInfer(&context, RawRequest(), &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
    source_.strings.turnstile.Open();
    EXPECT_TRUE(computing.get().ok());
    EXPECT_TRUE(Infer(RawRequest()).ok());  // passes are in order: the one before it is over
    int64_t samples = 0;
    const std::vector<int64_t> passes = source_.strings.Passes();
    for (size_t i = before; i < passes.size(); ++i) samples += passes[i];
    computed = samples > 2;
  }
  EXPECT_FALSE(computed);
}

TEST_F(InferenceServiceTest, TellsAboutServerAndModel) {
  {
    grpc::ClientContext context;
    inference::ServerLiveResponse response;
    ASSERT_TRUE(stub_->ServerLive(&context, {}, &response).ok());
    EXPECT_TRUE(response.live());
  }
  {
    grpc::ClientContext context;
    inference::ServerMetadataResponse response;
    ASSERT_TRUE(stub_->ServerMetadata(&context, {}, &response).ok());
    EXPECT_EQ(response.name(), "lockstep");
    EXPECT_NE(response.version(), "");
  }
  {
    grpc::ClientContext context;
    inference::ModelMetadataRequest request;
    request.set_name("m");
    inference::ModelMetadataResponse response;
    ASSERT_TRUE(stub_->ModelMetadata(&context, request, &response).ok());
    const auto expected = Parse<inference::ModelMetadataResponse>(R"pb(
      name: "m"
      versions: [ "1", "3" ]
      platform: "lockstep_safetensors"
      inputs {
        name: "input"
        datatype: "FP32"
        shape: [ -1, 2 ]
      }
      outputs {
        name: "output"
        datatype: "FP32"
        shape: [ -1, 3 ]
      })pb");
    EXPECT_EQ(response.DebugString(), expected.DebugString());
  }
  {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name("m");
    request.set_version("1");
    inference::ModelReadyResponse response;
    ASSERT_TRUE(stub_->ModelReady(&context, request, &response).ok());
    EXPECT_TRUE(response.ready()) << "an older version is loaded when it is asked for";
  }
  {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name("n");
    inference::ModelReadyResponse response;
    EXPECT_EQ(stub_->ModelReady(&context, request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
}

TEST_F(InferenceServiceTest, CountsByModelAndWhatIsNotServedAsOther) {
  ModelInferRequest request = RawRequest();
  EXPECT_TRUE(Infer(request).ok());
  request.clear_inputs();
  EXPECT_EQ(Infer(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.set_model_name("made up");
  EXPECT_EQ(Infer(request).error_code(), grpc::StatusCode::NOT_FOUND);
  const auto requests = [this](const std::string& model, const std::string& code) {
    return Figure(metrics_, "lockstep_inference_requests_total{code=\"" + code + "\",model=\"" +
                                model + "\"}");
  };
  EXPECT_EQ(requests("m", "OK"), 1);
  EXPECT_EQ(requests("m", "INVALID_ARGUMENT"), 1);
  EXPECT_EQ(requests("other", "NOT_FOUND"), 1);
}

}  // namespace
}  // namespace lockstep
