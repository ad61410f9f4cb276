#ifndef LOCKSTEP_SERVER_WEB_INFER_JSON_H_
#define LOCKSTEP_SERVER_WEB_INFER_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "inference/inference.pb.h"

// The open inference protocol's JSON: {"inputs": [{"name": "x", "shape": [1, 2], "datatype":
// "FP32", "data": [0.5, 1]}]} and {"model_name": ..., "model_version": ..., "outputs": [the same]}.
namespace lockstep {

// "data" may be nested, row-major. "version" (of ours: a number) names a version of the model.
// INVALID_ARGUMENT names the field; whether the values fit the model is for others to say.
absl::StatusOr<inference::ModelInferRequest> ReadInferJson(absl::string_view json);

std::string WriteInferJson(const inference::ModelInferResponse& response);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_INFER_JSON_H_
