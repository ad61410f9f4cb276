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

// "['a', 'b']"
std::string Names(std::span<const ModelTensor> tensors) {
  const auto name = [](std::string* out, const ModelTensor& t) {
    absl::StrAppend(out, "'", t.name, "'");
  };
  return absl::StrCat("[", absl::StrJoin(tensors, ", ", name), "]");
}

// The place of `name` among `tensors`, or -1.
int IndexOf(std::span<const ModelTensor> tensors, absl::string_view name) {
  const auto found = std::ranges::find(tensors, name, &ModelTensor::name);
  return found == tensors.end() ? -1 : static_cast<int>(found - tensors.begin());
}

// For each input of the model its place in the request.
absl::StatusOr<std::vector<int>> FindInputs(const ModelInferRequest& request,
                                            std::span<const ModelTensor> expected) {
  if (request.inputs_size() != std::ssize(expected)) {
    return absl::InvalidArgumentError(absl::StrCat("expected ", expected.size(), " inputs but got ",
                                                   request.inputs_size(), " inputs for model ",
                                                   Quoted(request.model_name()),
                                                   "; required input(s) ", Names(expected)));
  }
  std::vector<int> places(expected.size(), -1);
  for (int i = 0; i < request.inputs_size(); ++i) {
    const InputTensor& input = request.inputs(i);
    const int index = IndexOf(expected, input.name());
    if (index < 0 || places[index] >= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected inference ", InputOfModel(request, input),
                       ", missing required input(s) ", Names(expected)));
    }
    places[index] = i;
    if (input.parameters().contains("shared_memory_region")) {
      return absl::UnimplementedError("shared memory is not supported: send the tensor's contents");
    }
  }
  return places;
}

// The outputs asked for; all when none is named.
absl::StatusOr<std::vector<int>> FindOutputs(const ModelInferRequest& request,
                                             std::span<const ModelTensor> known) {
  std::vector<int> wanted;
  for (const auto& output : request.outputs()) {
    const int index = IndexOf(known, output.name());
    if (index < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected inference output ", Quoted(output.name()), " for model ",
                       Quoted(request.model_name()), ", which has ", Names(known)));
    }
    for (const char* parameter : {"classification", "shared_memory_region"}) {
      if (output.parameters().contains(parameter)) {
        return absl::UnimplementedError(
            absl::StrCat("output parameter '", parameter, "' is not supported"));
      }
    }
    if (std::ranges::count(wanted, index) == 0) wanted.push_back(index);
  }
  for (int i = 0; wanted.size() < known.size() && request.outputs().empty(); ++i)
    wanted.push_back(i);
  return wanted;
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

// The bytes of the request's input number `index`, all raw or all typed.
absl::StatusOr<std::span<const std::byte>> FindContents(const ModelInferRequest& request,
                                                        int index) {
  const InputTensor& input = request.inputs(index);
  const bool raw = request.raw_input_contents_size() > 0;
  if (raw && input.has_contents()) {
    return absl::InvalidArgumentError(
        absl::StrCat("contents field must not be specified when using raw_input_contents for ",
                     InputOfModel(request, input)));
  }
  if (raw) {
    const std::string& bytes = request.raw_input_contents(index);
    return std::as_bytes(std::span(bytes));
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
  return std::as_bytes(std::span(values.data(), values.size()));
}

// The bytes of the model's input `expected`, number `index` of the request, if its type, shape and
// size are right.
absl::StatusOr<std::span<const std::byte>> CheckInput(const ModelInferRequest& request, int index,
                                                      const ModelTensor& expected) {
  const InputTensor& input = request.inputs(index);
  if (input.datatype() != kInferDatatype) {
    return absl::InvalidArgumentError(absl::StrCat(
        "inference input ", Quoted(input.name()), " data-type is ", Quoted(input.datatype()),
        ", but model ", Quoted(request.model_name()), " expects '", kInferDatatype, "'"));
  }
  if (auto s = CheckShape(request, input, expected.shape); !s.ok()) return s;
  auto contents = FindContents(request, index);
  if (!contents.ok()) return contents;
  // Compared as numbers of values: in bytes, 2^62 samples of one value would pass for none.
  const uint64_t values = input.shape(0) * expected.size;
  if (contents->size() / sizeof(float) != values || contents->size() % sizeof(float) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("input byte size mismatch for ",
                                                   InputOfModel(request, input), ". Expected ",
                                                   values, " x 4, got ", contents->size()));
  }
  return contents;
}

}  // namespace

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
                                            const InferenceModel& network,
                                            int64_t max_response_bytes) {
  auto places = FindInputs(request, network.inputs());
  if (!places.ok()) return places.status();
  auto outputs = FindOutputs(request, network.outputs());
  if (!outputs.ok()) return outputs.status();
  const int raw = request.raw_input_contents_size();
  if (raw > 0 && raw != request.inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat("got ", raw, " raw_input_contents, expected ",
                                                   request.inputs_size(), " for ",
                                                   InputOfModel(request, request.inputs(0))));
  }
  InferRows rows = {.samples = -1, .x = {}, .raw = raw > 0, .outputs = *std::move(outputs)};
  for (size_t i = 0; i < places->size(); ++i) {
    auto contents = CheckInput(request, (*places)[i], network.inputs()[i]);
    if (!contents.ok()) return contents.status();
    rows.x.push_back(*contents);
    const InputTensor& input = request.inputs((*places)[i]);
    if (i > 0 && input.shape(0) != rows.samples) {
      return absl::InvalidArgumentError(absl::StrCat(
          InputOfModel(request, input), " has ", input.shape(0), " samples, but input ",
          Quoted(request.inputs((*places)[0]).name()), " has ", rows.samples));
    }
    rows.samples = input.shape(0);
  }
  const int64_t row_bytes = RowSize(network.outputs()) * int64_t{sizeof(float)};
  if (rows.samples > max_response_bytes / row_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Response has byte size ", rows.samples, " x ", row_bytes, ", which exceeds the limit of ",
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
  const std::span<const ModelTensor> outputs = network.outputs();
  const int64_t row = RowSize(outputs);
  for (int index : rows.outputs) {
    auto& output = *response.add_outputs();
    output.set_name(outputs[index].name);
    output.set_datatype(kInferDatatype);
    output.add_shape(rows.samples);
    for (int64_t dimension : outputs[index].shape) output.add_shape(dimension);
    const int64_t begin = RowSize(outputs.first(index));
    std::vector<float> values;
    for (int64_t n = 0; n < rows.samples; ++n) {
      const auto part = y.subspan(n * row + begin, outputs[index].size);
      values.insert(values.end(), part.begin(), part.end());
    }
    if (rows.raw) {
      response.add_raw_output_contents(values.data(), values.size() * sizeof(float));
    } else {
      output.mutable_contents()->mutable_fp32_contents()->Add(values.begin(), values.end());
    }
  }
}

}  // namespace lockstep
