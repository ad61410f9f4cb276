#include "server/api/dataset_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "tests/server/api/loopback_server.h"

namespace lockstep {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class DatasetServiceTest : public testing::Test {
 protected:
  DatasetServiceTest() {
    for (int i = 0; i < 24; ++i) x_.push_back(static_cast<char>(i));
    auto blobs = v1::BlobService::NewStub(server_.channel());
    EXPECT_TRUE(Upload(*blobs, BlobOf(x_), x_).ok());
    EXPECT_TRUE(Upload(*blobs, BlobOf(y_), y_).ok());
  }

  // Two samples: x uint8 [2, 3, 4] and y int64 [2].
  v1::Dataset Good() const {
    v1::Dataset dataset;
    dataset.set_name("group/set-1.0");
    v1::Tensor* y = dataset.add_tensors();  // not in the order of the names
    y->set_name("y");
    y->set_dtype("int64");
    y->add_shape(2);
    *y->mutable_blob() = BlobOf(y_);
    v1::Tensor* x = dataset.add_tensors();
    x->set_name("x");
    x->set_dtype("uint8");
    for (const int64_t dimension : {2, 3, 4}) x->add_shape(dimension);
    *x->mutable_blob() = BlobOf(x_);
    return dataset;
  }

  grpc::Status Create(const v1::Dataset& dataset, v1::Dataset* response) {
    grpc::ClientContext context;
    v1::CreateDatasetRequest request;
    *request.mutable_dataset() = dataset;
    return stub_->CreateDataset(&context, request, response);
  }

  LoopbackServer server_;
  std::unique_ptr<v1::DatasetService::Stub> stub_ = v1::DatasetService::NewStub(server_.channel());
  std::string x_;
  const std::string y_ = std::string(16, '\0');
};

TEST_F(DatasetServiceTest, RegistersWhatHasBeenUploaded) {
  v1::Dataset given = Good();
  given.set_digest("a client's word");
  v1::Dataset created;
  const grpc::Status status = Create(given, &created);
  ASSERT_TRUE(status.ok()) << status.error_message();
  // Computed with Python's hashlib from the definition in dataset.proto.
  EXPECT_EQ(created.digest(), "4c2e867a63de236d829f804b19de93a73e559786ed4c007bf6f46d3b3d0a8840");
  EXPECT_GT(created.create_time().seconds(), 1'600'000'000);

  v1::Dataset again;
  ASSERT_TRUE(Create(Good(), &again).ok()) << "the same data set";
  EXPECT_EQ(again.create_time().nanos(), created.create_time().nanos());

  grpc::ClientContext get_context, list_context;
  v1::GetDatasetRequest get;
  get.set_name("group/set-1.0");
  v1::Dataset got;
  ASSERT_TRUE(stub_->GetDataset(&get_context, get, &got).ok());
  EXPECT_EQ(got.SerializeAsString(), created.SerializeAsString());
  v1::ListDatasetsResponse list;
  ASSERT_TRUE(stub_->ListDatasets(&list_context, v1::ListDatasetsRequest(), &list).ok());
  EXPECT_EQ(list.datasets_size(), 1);

  v1::Dataset other = Good();
  other.mutable_tensors()->RemoveLast();
  EXPECT_EQ(Create(other, &again).error_code(), StatusCode::ALREADY_EXISTS);
}

TEST_F(DatasetServiceTest, KnowsTheRangeOfValuesAndRefusesWhatIsNotFinite) {
  v1::Dataset created;
  ASSERT_TRUE(Create(Good(), &created).ok());
  EXPECT_EQ(created.tensors(1).min_value(), 0);
  EXPECT_EQ(created.tensors(1).max_value(), 23);

  const float values[6] = {1, 2, 3, 4, std::numeric_limits<float>::quiet_NaN(), 6};
  const std::string bytes(reinterpret_cast<const char*>(values), sizeof(values));
  auto blobs = v1::BlobService::NewStub(server_.channel());
  ASSERT_TRUE(Upload(*blobs, BlobOf(bytes), bytes).ok());
  v1::Dataset bad = Good();
  bad.set_name("bad");
  v1::Tensor* x = bad.mutable_tensors(1);
  x->set_dtype("float32");
  x->clear_shape();
  for (const int64_t dimension : {2, 3}) x->add_shape(dimension);
  *x->mutable_blob() = BlobOf(bytes);
  const grpc::Status status = Create(bad, &created);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              HasSubstr("dataset.tensors[1] (\"x\"): value 1 of sample 1 is NaN or infinite"));
}

TEST_F(DatasetServiceTest, RefusesWhatDoesNotFitAndSaysWhere) {
  using Change = std::function<void(v1::Dataset&)>;
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  const struct {
    const char* what;
    Change change;
    std::string message;
    StatusCode code = StatusCode::INVALID_ARGUMENT;
  } cases[] = {
      {"no name", [](v1::Dataset& d) { d.clear_name(); }, "dataset.name: must be 1 to 128"},
      {"binary name", [](v1::Dataset& d) { d.set_name("a\x01z"); }, "got \"a\\x01z\""},
      {"long name", [](v1::Dataset& d) { d.set_name(std::string(129, 'a')); }, "dataset.name"},
      {"no tensors", [](v1::Dataset& d) { d.clear_tensors(); }, "dataset.tensors: must be 1 to"},
      {"many tensors",
       [](v1::Dataset& d) {
         for (int i = 0; i < 1000; ++i) d.add_tensors();
       },
       "got 1002"},
      {"tensor name", [](v1::Dataset& d) { d.mutable_tensors(1)->set_name("x y"); },
       "dataset.tensors[1].name"},
      {"name twice", [](v1::Dataset& d) { d.mutable_tensors(1)->set_name("y"); },
       "dataset.tensors[1].name: \"y\" is there twice"},
      {"dtype", [](v1::Dataset& d) { d.mutable_tensors(0)->set_dtype("complex64"); },
       "dataset.tensors[0].dtype: must be uint8"},
      {"no shape", [](v1::Dataset& d) { d.mutable_tensors(0)->clear_shape(); },
       "dataset.tensors[0].shape"},
      {"zero dimension", [](v1::Dataset& d) { d.mutable_tensors(1)->set_shape(1, 0); },
       "dataset.tensors[1].shape[1]: must be >= 1, got 0"},
      {"negative dimension", [](v1::Dataset& d) { d.mutable_tensors(1)->set_shape(2, -4); },
       "dataset.tensors[1].shape[2]: must be >= 1, got -4"},
      {"product passes 64 bits",
       [=](v1::Dataset& d) {
         d.mutable_tensors(1)->set_shape(1, kHuge);
         d.mutable_tensors(1)->set_shape(2, kHuge);
       },
       "is too large"},
      {"bytes pass 64 bits",
       [=](v1::Dataset& d) { d.mutable_tensors(0)->set_shape(0, int64_t{1} << 61); },
       "is too large"},
      {"shape and size", [](v1::Dataset& d) { d.mutable_tensors(1)->set_shape(1, 5); },
       "dataset.tensors[1].blob.size_bytes: uint8 [2, 5, 4] takes 40 bytes, got 24"},
      {"samples",
       [](v1::Dataset& d) {
         d.mutable_tensors(1)->set_shape(0, 3);
         d.mutable_tensors(1)->set_shape(1, 2);
       },
       "dataset.tensors[1].shape[0]: all tensors have the same number of samples"},
      {"digest",
       [](v1::Dataset& d) { d.mutable_tensors(0)->mutable_blob()->set_sha256("../../x"); },
       "dataset.tensors[0].blob.sha256"},
      {"not uploaded",
       [](v1::Dataset& d) {
         d.mutable_tensors(0)->mutable_blob()->set_sha256(std::string(64, '0'));
       },
       "dataset.tensors[0].blob: 0000", StatusCode::FAILED_PRECONDITION},
      {"size of the blob",
       [](v1::Dataset& d) {
         d.mutable_tensors(0)->set_dtype("int32");
         d.mutable_tensors(0)->mutable_blob()->set_size_bytes(8);
       },
       "dataset.tensors[0].blob.size_bytes: the blob has 16, got 8"},
  };
  for (const auto& c : cases) {
    v1::Dataset dataset = Good();
    c.change(dataset);
    v1::Dataset ignored;
    const grpc::Status status = Create(dataset, &ignored);
    EXPECT_EQ(status.error_code(), c.code) << c.what;
    EXPECT_THAT(status.error_message(), HasSubstr(c.message)) << c.what;
    EXPECT_LT(status.error_message().size(), 1000u) << c.what;
  }
  v1::Dataset created;
  EXPECT_TRUE(Create(Good(), &created).ok()) << "none of them has left anything";
}

TEST_F(DatasetServiceTest, NamesWhatIsNotThere) {
  grpc::ClientContext dataset_context, model_context, version_context;
  v1::GetDatasetRequest get;
  get.set_name("ghost");
  v1::Dataset dataset;
  const grpc::Status status = stub_->GetDataset(&dataset_context, get, &dataset);
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("ghost"));

  auto models = v1::ModelService::NewStub(server_.channel());
  v1::GetModelRequest get_model;
  get_model.set_name("ghost");
  v1::ModelVersion model;
  EXPECT_EQ(models->GetModel(&model_context, get_model, &model).error_code(),
            StatusCode::NOT_FOUND);
  get_model.set_version(-1);
  EXPECT_EQ(models->GetModel(&version_context, get_model, &model).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace lockstep
