#ifndef LOCKSTEP_CLIENT_CLI_VERIFICATION_H_
#define LOCKSTEP_CLIENT_CLI_VERIFICATION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/registry.pb.h"

// A receipt is verified by a job that trains the same again and compares state hashes. Pure.
namespace lockstep {

// A receipt from its JSON, as `lockstep receipt` prints it. INVALID_ARGUMENT for anything else: a
// field that is not understood could be one that changes the result.
absl::StatusOr<v1::Receipt> ParseReceipt(const std::string& json);
// With the proto's field names, over several lines.
absl::StatusOr<std::string> ReceiptToJson(const v1::Receipt& receipt);

// The job that verifies a receipt, from the first step. Of what the receipt says about where its
// job ran, nothing is taken over: `threads` is this side's, nothing for the worker's own number.
// FAILED_PRECONDITION when the receipt does not say enough.
absl::StatusOr<v1::JobSpec> VerificationOf(const v1::Receipt& receipt, std::optional<int> threads);

// The checkpoint of the receipt's job to go on from: that of `step`, or else the newest before the
// end. NOT_FOUND, with those there are, without one.
absl::StatusOr<v1::Checkpoint> CheckpointToVerifyFrom(const v1::Job& job, int64_t steps,
                                                      std::optional<int64_t> step);

// Whether the job has ended in what its verification asks for. The hash that the job came to is
// compared here too.
bool IsVerified(const v1::Job& job);
// "verified: 2345 steps, 5 epochs, state hash 0123... is the receipt's", or what differs.
std::string VerificationOutcome(const v1::Job& job);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_VERIFICATION_H_
