#include <fmt/format.h>

#include <cstdio>

#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_view.h"
#include "client/cli/json_object.h"
#include "client/cli/new_file.h"
#include "client/cli/verification.h"
#include "client/cli/watch_view.h"

namespace lockstep {
namespace {

constexpr char kSeeModels[] = "`lockstep models` lists what there is";

// The model's receipt. Without one that has been reported, and `code` says how to end.
std::optional<v1::Receipt> FetchReceipt(Session& session, Client& client, const std::string& what,
                                        const std::string& model, ExitCode& code) {
  absl::StatusOr<ModelName> name = ParseModelName(model);
  if (!name.ok()) {
    code = session.Misused(what, name.status());
    return std::nullopt;
  }
  absl::StatusOr<v1::ModelVersion> version = client.GetModel(name->name, name->version);
  if (!version.ok()) {
    code =
        session.Fail(what, version.status(), absl::IsNotFound(version.status()) ? kSeeModels : "");
    return std::nullopt;
  }
  return version->receipt();
}

}  // namespace

ExitCode ShowReceipt(Session& session, const std::string& model, const std::string& output) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  const std::string what = "receipt " + model;
  ExitCode code = kOk;
  const std::optional<v1::Receipt> receipt = FetchReceipt(session, *client, what, model, code);
  if (!receipt.has_value()) return code;
  if (output.empty() && session.json()) {
    PrintJson(*receipt);
    return kOk;
  }
  absl::StatusOr<std::string> json = ReceiptToJson(*receipt);
  if (!json.ok()) return session.Fail(what, json.status(), "");
  if (output.empty()) {
    std::fputs(json->c_str(), stdout);
    return kOk;
  }
  NewFile file(output);
  absl::Status status = file.Open();
  if (status.ok()) status = file.Append(*json);
  if (status.ok()) status = file.Commit();
  if (!status.ok()) return session.Misused(what, status);
  if (session.json()) {
    JsonObject().Text("file", output).Integer("size_bytes", json->size()).Print();
  } else {
    std::printf("%s: %s, state hash %s\nnext: lockstep verify --receipt %s\n", output.c_str(),
                FormatBytes(json->size()).c_str(), receipt->state_hash().c_str(), output.c_str());
  }
  return kOk;
}

ExitCode Verify(Session& session, const VerifyArguments& arguments) {
  const std::string what =
      "verify " + (arguments.model.empty() ? arguments.receipt : arguments.model);
  std::optional<v1::Receipt> receipt;
  if (arguments.model.empty()) {
    absl::StatusOr<std::string> json = ReadFile(arguments.receipt);
    if (!json.ok()) return session.Misused("verify", json.status());
    absl::StatusOr<v1::Receipt> parsed = ParseReceipt(*json);
    if (!parsed.ok()) {
      return session.Misused(what, parsed.status(), "`lockstep receipt MODEL -o FILE` writes one");
    }
    receipt = *std::move(parsed);
  }
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  if (!receipt.has_value()) {
    ExitCode code = kOk;
    receipt = FetchReceipt(session, *client, what, arguments.model, code);
    if (!receipt.has_value()) return code;
  }

  absl::StatusOr<v1::JobSpec> spec = VerificationOf(*receipt, arguments.threads);
  if (!spec.ok()) {
    return session.Fail(what, spec.status(), "train the model again to get one that is whole");
  }
  if (arguments.from_checkpoint) {
    absl::StatusOr<v1::Job> trained = client->GetJob(receipt->job_id());
    if (!trained.ok()) {
      return session.Fail(what + " --from-checkpoint", trained.status(),
                          "only the server that trained the model has its checkpoints");
    }
    absl::StatusOr<v1::Checkpoint> checkpoint =
        CheckpointToVerifyFrom(*trained, receipt->steps(), arguments.checkpoint_step);
    if (!checkpoint.ok()) {
      return session.Fail(what, checkpoint.status(),
                          "without --from-checkpoint it goes from the first step");
    }
    *spec->mutable_verification()->mutable_checkpoint() = *std::move(checkpoint);
  }

  absl::StatusOr<v1::Job> job = client->SubmitJob(*spec, arguments.id, /*reuse=*/false);
  if (!job.ok()) {
    return session.Fail(what, job.status(),
                        absl::IsInvalidArgument(job.status())
                            ? "this server needs what the receipt's spec names"
                            : "");
  }
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::printf("job %s verifies state hash %s\n", job->id().c_str(),
                ShortHash(receipt->state_hash()).c_str());
    if (job->fingerprint() != receipt->fingerprint()) {
      std::printf(
          "WARNING: its fingerprint is %s, the receipt's %s: this server has other data or another "
          "contract\n",
          ShortHash(job->fingerprint()).c_str(), ShortHash(receipt->fingerprint()).c_str());
    }
    std::fflush(stdout);
  }
  v1::Job end;
  const ExitCode code = Watch(session, *client, *job, {.end = &end});
  if (code != kOk && code != kRefused) return code;
  if (end.id().empty()) return code;
  const bool verified = IsVerified(end);
  if (session.json()) {
    JsonObject()
        .Text("outcome", verified ? "verified" : "not verified")
        .Text("job", end.id())
        .Integer("steps", end.progress().step())
        .Text("state_hash", end.state_hash())
        .Text("reason", end.state_reason())
        .Print();
  }
  return verified ? kOk : kRefused;
}

}  // namespace lockstep
