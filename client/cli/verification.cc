#include "client/cli/verification.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/format.h"

namespace lockstep {

absl::StatusOr<v1::Receipt> ParseReceipt(const std::string& json) {
  v1::Receipt receipt;
  const auto parsed = google::protobuf::util::JsonStringToMessage(json, &receipt);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("no receipt: ", std::string(parsed.message())));
  }
  return receipt;
}

absl::StatusOr<std::string> ReceiptToJson(const v1::Receipt& receipt) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(receipt, &json, options);
  if (!printed.ok()) return absl::InternalError(std::string(printed.message()));
  return json;
}

absl::StatusOr<v1::JobSpec> VerificationOf(const v1::Receipt& receipt, std::optional<int> threads) {
  if (!receipt.has_spec()) {
    return absl::FailedPreconditionError(
        "the receipt has no spec: it was written by an older server, or is cut short");
  }
  if (receipt.state_hash().empty() || receipt.steps() < 1) {
    return absl::FailedPreconditionError("the receipt has no steps or state hash to compare with");
  }
  v1::JobSpec spec = receipt.spec();
  spec.clear_resources();
  if (threads.has_value()) spec.mutable_resources()->set_threads(*threads);
  v1::Verification& verification = *spec.mutable_verification();
  verification.Clear();
  *verification.mutable_epochs() = receipt.epochs();
  verification.set_steps(receipt.steps());
  verification.set_state_hash(receipt.state_hash());
  return spec;
}

absl::StatusOr<v1::Checkpoint> CheckpointToVerifyFrom(const v1::Job& job, int64_t steps,
                                                      std::optional<int64_t> step) {
  const auto found = std::find_if(
      job.checkpoints().begin(), job.checkpoints().end(), [&](const v1::Checkpoint& checkpoint) {
        return step.has_value() ? checkpoint.step() == *step : checkpoint.step() < steps;
      });
  if (found != job.checkpoints().end()) return *found;
  std::string kept;
  for (const v1::Checkpoint& checkpoint : job.checkpoints()) {
    absl::StrAppend(&kept, kept.empty() ? "" : ", ", checkpoint.step());
  }
  return absl::NotFoundError(
      fmt::format("job {} keeps no checkpoint {}; {}", job.id(),
                  step.has_value() ? fmt::format("of step {}", *step) : "from before its end",
                  kept.empty() ? "it keeps none" : "it keeps those of step " + kept));
}

bool IsVerified(const v1::Job& job) {
  return job.state() == v1::SUCCEEDED && job.state_hash() == job.spec().verification().state_hash();
}

std::string VerificationOutcome(const v1::Job& job) {
  const v1::Verification& wanted = job.spec().verification();
  if (IsVerified(job)) {
    const int64_t first = wanted.checkpoint().step();
    const int64_t epochs =
        std::count_if(wanted.epochs().begin(), wanted.epochs().end(),
                      [&](const v1::EpochHash& epoch) { return epoch.step() > first; });
    std::string outcome = fmt::format("verified: {} steps", wanted.steps() - first);
    if (first > 0) outcome += fmt::format(" from step {}", first);
    if (epochs > 0) outcome += fmt::format(", {} epoch{}", epochs, epochs == 1 ? "" : "s");
    return outcome + fmt::format(", state hash {} is the receipt's", job.state_hash());
  }
  if (job.state() == v1::SUCCEEDED) {
    return fmt::format("not verified: state hash {} where the receipt has {}", job.state_hash(),
                       wanted.state_hash());
  }
  return fmt::format("not verified: {}",
                     job.state_reason().empty() ? StateName(job.state()) : job.state_reason());
}

}  // namespace lockstep
