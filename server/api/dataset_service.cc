#include "server/api/dataset_service.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/data/elements.h"
#include "core/data/tensor.h"
#include "server/api/names.h"

namespace lockstep {
namespace {

constexpr int kMaxTensors = 64;
constexpr int kMaxRank = 8;

absl::Status CheckTensor(const std::string& path, const v1::Tensor& tensor) {
  if (absl::Status s = CheckName(absl::StrCat(path, ".name"), tensor.name(), 64, "._-"); !s.ok()) {
    return s;
  }
  const std::optional<DType> dtype = ParseDType(tensor.dtype());
  if (!dtype.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ".dtype: must be uint8, int8, uint16, int16, int32, int64, float32 or float64, got \"",
        absl::CHexEscape(tensor.dtype().substr(0, 32)), "\""));
  }
  if (tensor.shape().empty() || tensor.shape_size() > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".shape: must have 1 to ", kMaxRank,
                                                   " dimensions, got ", tensor.shape_size()));
  }
  for (int i = 0; i < tensor.shape_size(); ++i) {
    if (tensor.shape(i) < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".shape[", i, "]: must be >= 1, got ", tensor.shape(i)));
    }
  }
  const std::span<const int64_t> shape(tensor.shape().data(), tensor.shape().size());
  const int64_t elements = ElementCount(shape);
  int64_t bytes;
  if (elements < 0 || __builtin_mul_overflow(elements, DTypeSize(*dtype), &bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ".shape: ", ShapeString(shape), " is too large"));
  }
  if (tensor.blob().size_bytes() != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ".blob.size_bytes: ", tensor.dtype(), " ",
                                                   ShapeString(shape), " takes ", bytes,
                                                   " bytes, got ", tensor.blob().size_bytes()));
  }
  return absl::OkStatus();
}

// Sets the tensor's smallest and largest value; refuses what is not finite. Reads its blob a piece
// at a time.
absl::Status ScanValues(const std::string& path, const BlobStore& blobs, v1::Tensor* tensor) {
  constexpr int64_t kPiece = 1 << 20;  // a multiple of every element's size
  absl::StatusOr<std::unique_ptr<BlobStore::Reader>> reader = blobs.Read(tensor->blob().sha256());
  if (!reader.ok()) return reader.status();
  const DType dtype = *ParseDType(tensor->dtype());
  double min = std::numeric_limits<double>::infinity();
  double max = -min;
  int64_t element = 0;
  bool finite = true;
  for (int64_t offset = 0; finite && offset < (*reader)->size_bytes(); offset += kPiece) {
    absl::StatusOr<std::string> piece = (*reader)->Read(offset, kPiece);
    if (!piece.ok()) return piece.status();
    ForElements(dtype, std::as_bytes(std::span(*piece)), [&](auto value) {
      finite = std::isfinite(static_cast<double>(value));
      min = std::min(min, static_cast<double>(value));
      max = std::max(max, static_cast<double>(value));
      element += finite;
      return finite;
    });
  }
  if (!finite) {
    const int64_t samples = tensor->shape(0);
    const int64_t size = tensor->blob().size_bytes() / DTypeSize(dtype) / samples;
    return absl::InvalidArgumentError(
        absl::StrCat(path, " (\"", tensor->name(), "\"): value ", element % size, " of sample ",
                     element / size, " is NaN or infinite; every value must be finite"));
  }
  tensor->set_min_value(min);
  tensor->set_max_value(max);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDataset(const v1::Dataset& dataset) {
  if (absl::Status s = CheckName("dataset.name", dataset.name(), 128, "._-/"); !s.ok()) return s;
  if (dataset.tensors().empty() || dataset.tensors_size() > kMaxTensors) {
    return absl::InvalidArgumentError(absl::StrCat("dataset.tensors: must be 1 to ", kMaxTensors,
                                                   ", got ", dataset.tensors_size()));
  }
  std::set<std::string> names;
  for (int i = 0; i < dataset.tensors_size(); ++i) {
    const v1::Tensor& tensor = dataset.tensors(i);
    const std::string path = absl::StrCat("dataset.tensors[", i, "]");
    if (absl::Status s = CheckTensor(path, tensor); !s.ok()) return s;
    if (!names.insert(tensor.name()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".name: \"", tensor.name(), "\" is there twice"));
    }
    if (tensor.shape(0) != dataset.tensors(0).shape(0)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ".shape[0]: all tensors have the same number of samples; \"",
                       dataset.tensors(0).name(), "\" has ", dataset.tensors(0).shape(0), ", \"",
                       tensor.name(), "\" ", tensor.shape(0)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Dataset> DatasetService::Create(const v1::Dataset& given) {
  if (absl::Status s = CheckDataset(given); !s.ok()) return s;
  for (int i = 0; i < given.tensors_size(); ++i) {
    const v1::Blob& blob = given.tensors(i).blob();
    absl::StatusOr<v1::StatBlobResponse> held = blobs_.Stat(blob);
    if (!held.ok()) {
      return absl::Status(held.status().code(),
                          absl::StrCat("dataset.tensors[", i, "].", held.status().message()));
    }
    if (!held->complete()) {
      return absl::FailedPreconditionError(
          absl::StrCat("dataset.tensors[", i, "].blob: ", blob.sha256(),
                       " has not been uploaded; write it with BlobService first"));
    }
    if (held->received_bytes() != blob.size_bytes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("dataset.tensors[", i, "].blob.size_bytes: the blob has ",
                       held->received_bytes(), ", got ", blob.size_bytes()));
    }
  }
  v1::Dataset dataset = given;
  for (int i = 0; i < dataset.tensors_size(); ++i) {
    absl::Status scanned =
        ScanValues(absl::StrCat("dataset.tensors[", i, "]"), blobs_, dataset.mutable_tensors(i));
    if (!scanned.ok()) return scanned;
  }
  dataset.set_digest(DatasetDigest(dataset));
  *dataset.mutable_create_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  return store_.InsertDataset(dataset);
}

grpc::ServerUnaryReactor* DatasetService::CreateDataset(grpc::CallbackServerContext* context,
                                                        const v1::CreateDatasetRequest* request,
                                                        v1::Dataset* response) {
  return gate_.Unary(context, "DatasetService.CreateDataset", {request, response}, [=, this] {
    absl::StatusOr<v1::Dataset> created = Create(request->dataset());
    if (created.ok()) *response = *std::move(created);
    return created.status();
  });
}

grpc::ServerUnaryReactor* DatasetService::GetDataset(grpc::CallbackServerContext* context,
                                                     const v1::GetDatasetRequest* request,
                                                     v1::Dataset* response) {
  return gate_.Unary(context, "DatasetService.GetDataset", {request, response}, [=, this] {
    absl::StatusOr<v1::Dataset> found = store_.GetDataset(request->name());
    if (found.ok()) *response = *std::move(found);
    return found.status();
  });
}

grpc::ServerUnaryReactor* DatasetService::ListDatasets(grpc::CallbackServerContext* context,
                                                       const v1::ListDatasetsRequest* request,
                                                       v1::ListDatasetsResponse* response) {
  return gate_.Unary(context, "DatasetService.ListDatasets", {request, response},
                     [=, this]() -> absl::Status {
                       absl::StatusOr<std::vector<v1::Dataset>> found = store_.ListDatasets();
                       if (!found.ok()) return found.status();
                       for (v1::Dataset& dataset : *found)
                         *response->add_datasets() = std::move(dataset);
                       return absl::OkStatus();
                     });
}

}  // namespace lockstep
