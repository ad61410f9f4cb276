#ifndef LOCKSTEP_SERVER_SERVING_INFER_REQUEST_H_
#define LOCKSTEP_SERVER_SERVING_INFER_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/inference/inference_model.h"
#include "inference/inference.pb.h"
#include "lockstep/v1/registry.pb.h"

// Between the open inference protocol's messages and rows of floats: every rule about what a
// request may hold is here, away from threads and gRPC. Status codes and the gist of the messages
// are Triton's, since clients match on them.
namespace lockstep {

// The only type that networks take and give.
inline constexpr char kInferDatatype[] = "FP32";

// 0 for the empty string (the newest version); else a positive integer, or INVALID_ARGUMENT.
absl::StatusOr<int64_t> ParseModelVersion(absl::string_view version);

struct InferRows {
  int64_t samples = 0;
  // FP32 values inside the request for each input of the model, at any alignment.
  std::vector<std::span<const std::byte>> x;
  bool raw = true;           // how they came, and how the answer is to go
  std::vector<int> outputs;  // those of the model's that are wanted, in the order asked for
};

// Checks a request against the model. Allocates nothing that grows with what the request claims.
// The answer's size is checked too: at most `max_response_bytes`.
absl::StatusOr<InferRows> ParseInferRequest(const inference::ModelInferRequest& request,
                                            const InferenceModel& network,
                                            int64_t max_response_bytes);

// The answer to `request`, whose rows are `y`.
void FillInferResponse(const inference::ModelInferRequest& request, const InferRows& rows,
                       const v1::ModelVersion& record, const InferenceModel& network,
                       std::span<const float> y, inference::ModelInferResponse& response);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_INFER_REQUEST_H_
