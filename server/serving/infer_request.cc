#include "server/serving/infer_request.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/data/tensor.h"
#include "server/serving/quoted.h"

namespace lockstep {
namespace {

using inference::ModelInferRequest;
using InputTensor = ModelInferRequest::InferInputTensor;

// Raw contents are little-endian; so are the floats they are copied into.
static_assert(std::endian::native == std::endian::little);

std::string ShapeText(std::span<const int64_t> shape) {
  if (shape.size() > 16) return absl::StrCat(shape.size(), " dimensions");
  return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
}

// "input 'x' for model 'm'"
std::string InputOfModel(const ModelInferRequest& request, const InputTensor& input) {
  return absl::StrCat("input ", Quoted(input.name()), " for model ", Quoted(request.model_name()));
}

absl::Status CheckInputNames(const ModelInferRequest& request, absl::string_view expected) {
  if (request.inputs_size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected 1 inputs but got ", request.inputs_size(), " inputs for model ",
                     Quoted(request.model_name()), "; required input(s) ['", expected, "']"));
  }
  const InputTensor& input = request.inputs(0);
  if (input.name() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected inference ", InputOfModel(request, input),
                     ", missing required input(s) ['", expected, "']"));
  }
  if (input.parameters().contains("shared_memory_region")) {
    return absl::UnimplementedError("shared memory is not supported: send the tensor's contents");
  }
  return absl::OkStatus();
}

absl::Status CheckOutputNames(const ModelInferRequest& request) {
  for (const auto& output : request.outputs()) {
    if (output.name() != kOutputName) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected inference output ", Quoted(output.name()), " for model ",
                       Quoted(request.model_name()), ", which has ['", kOutputName, "']"));
    }
    for (const char* parameter : {"classification", "shared_memory_region"}) {
      if (output.parameters().contains(parameter)) {
        return absl::UnimplementedError(
            absl::StrCat("output parameter '", parameter, "' is not supported"));
      }
    }
  }
  return absl::OkStatus();
}

// OK for [samples, sample_shape...] with any number of samples.
absl::Status CheckShape(const ModelInferRequest& request, const InputTensor& input,
                        std::span<const int64_t> sample_shape) {
  const std::span<const int64_t> shape(input.shape().data(), input.shape_size());
  if (!shape.empty() && std::ranges::equal(shape.subspan(1), sample_shape) &&
      ElementCount(shape) >= 0) {
    return absl::OkStatus();
  }
  std::vector<int64_t> expected = {-1};
  expected.insert(expected.end(), sample_shape.begin(), sample_shape.end());
  return absl::InvalidArgumentError(absl::StrCat("unexpected shape for ",
                                                 InputOfModel(request, input), ". Expected ",
                                                 ShapeText(expected), ", got ", ShapeText(shape)));
}

// The datatype of typed contents that are not FP32; empty when there are none.
absl::string_view WrongTypedField(const inference::InferTensorContents& contents) {
  if (contents.bool_contents_size() > 0) return "BOOL";
  if (contents.int_contents_size() > 0) return "INT32";
  if (contents.int64_contents_size() > 0) return "INT64";
  if (contents.uint_contents_size() > 0) return "UINT32";
  if (contents.uint64_contents_size() > 0) return "UINT64";
  if (contents.fp64_contents_size() > 0) return "FP64";
  if (contents.bytes_contents_size() > 0) return "BYTES";
  return "";
}

// Finds the bytes of the only input.
absl::StatusOr<InferRows> FindContents(const ModelInferRequest& request, const InputTensor& input) {
  const bool raw = request.raw_input_contents_size() > 0;
  if (raw && input.has_contents()) {
    return absl::InvalidArgumentError(
        absl::StrCat("contents field must not be specified when using raw_input_contents for ",
                     InputOfModel(request, input)));
  }
  if (request.raw_input_contents_size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("got ", request.raw_input_contents_size(),
                                                   " raw_input_contents, expected one for ",
                                                   InputOfModel(request, input)));
  }
  if (raw) {
    const std::string& bytes = request.raw_input_contents(0);
    return InferRows{.x = std::as_bytes(std::span(bytes)), .raw = true};
  }
  if (!input.has_contents()) {
    return absl::InvalidArgumentError(absl::StrCat("unable to find data for input tensor ",
                                                   Quoted(input.name()), " for model ",
                                                   Quoted(request.model_name()), " in request."));
  }
  const absl::string_view wrong = WrongTypedField(input.contents());
  if (!wrong.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected explicit tensor data for input tensor ", Quoted(input.name()),
                     " for model ", Quoted(request.model_name()), " of type '", wrong,
                     "', expected datatype '", kInferDatatype, "'"));
  }
  const auto& values = input.contents().fp32_contents();
  return InferRows{.x = std::as_bytes(std::span(values.data(), values.size())), .raw = false};
}

}  // namespace

absl::string_view InputName(const v1::ModelVersion& model) {
  const std::string& name = model.spec().inputs(0).name();
  return name.empty() ? absl::string_view("input") : name;
}

absl::StatusOr<int64_t> ParseModelVersion(absl::string_view version) {
  if (version.empty()) return 0;
  int64_t number = 0;
  if (!absl::SimpleAtoi(version, &number) || number <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("failed to get model version from specified version string ", Quoted(version),
                     ": must be an integer > 0, or empty for the newest"));
  }
  return number;
}

absl::StatusOr<InferRows> ParseInferRequest(const ModelInferRequest& request,
                                            const v1::ModelVersion& record,
                                            const InferenceModel& network,
                                            int64_t max_response_bytes) {
  absl::Status status = CheckInputNames(request, InputName(record));
  if (status.ok()) status = CheckOutputNames(request);
  if (!status.ok()) return status;

  const InputTensor& input = request.inputs(0);
  if (input.datatype() != kInferDatatype) {
    return absl::InvalidArgumentError(absl::StrCat(
        "inference input ", Quoted(input.name()), " data-type is ", Quoted(input.datatype()),
        ", but model ", Quoted(request.model_name()), " expects '", kInferDatatype, "'"));
  }
  status = CheckShape(request, input, network.input_shape());
  if (!status.ok()) return status;
  absl::StatusOr<InferRows> rows = FindContents(request, input);
  if (!rows.ok()) return rows;
  rows->samples = input.shape(0);

  // Compared as numbers of values: in bytes, 2^62 samples of one value would pass for none.
  const uint64_t values = rows->samples * ElementCount(network.input_shape());
  if (rows->x.size() / sizeof(float) != values || rows->x.size() % sizeof(float) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("input byte size mismatch for ",
                                                   InputOfModel(request, input), ". Expected ",
                                                   values, " x 4, got ", rows->x.size()));
  }
  const int64_t row_bytes = ElementCount(network.output_shape()) * int64_t{sizeof(float)};
  if (rows->samples > max_response_bytes / row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Response has byte size ", rows->samples, " x ", row_bytes, ", which exceeds the limit of ",
        max_response_bytes, " bytes; send fewer samples at a time"));
  }
  return rows;
}

void FillInferResponse(const ModelInferRequest& request, const InferRows& rows,
                       const v1::ModelVersion& record, const InferenceModel& network,
                       std::span<const float> y, inference::ModelInferResponse& response) {
  response.set_model_name(record.name());
  response.set_model_version(absl::StrCat(record.version()));
  response.set_id(request.id());
  auto& output = *response.add_outputs();
  output.set_name(kOutputName);
  output.set_datatype(kInferDatatype);
  output.add_shape(rows.samples);
  for (int64_t dimension : network.output_shape()) output.add_shape(dimension);
  if (rows.raw) {
    response.add_raw_output_contents(y.data(), y.size_bytes());
  } else {
    output.mutable_contents()->mutable_fp32_contents()->Add(y.begin(), y.end());
  }
}

}  // namespace lockstep
