#include <fmt/format.h>

#include <cstdio>
#include <functional>

#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json_object.h"
#include "client/cli/new_file.h"
#include "client/cli/transfer_meter.h"

namespace lockstep {
namespace {

// What a job or model has to give.
absl::StatusOr<v1::Weights> Find(Client& client, const std::string& source) {
  if (source.find(':') == std::string::npos) {
    absl::StatusOr<v1::Weights> weights = client.GetJobWeights(source);
    if (!absl::IsNotFound(weights.status())) return weights;
  }
  absl::StatusOr<ModelName> name = ParseModelName(source);
  if (!name.ok()) return name.status();
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name->name, name->version);
  if (absl::IsNotFound(model.status()) && name->version == 0) {
    return absl::NotFoundError(fmt::format("there is neither a job nor a model '{}'", source));
  }
  if (!model.ok()) return model.status();
  v1::Weights weights;
  *weights.mutable_blob() = model->weights();
  weights.set_step(model->receipt().steps());
  return weights;
}

}  // namespace

ExitCode Fetch(Session& session, const std::string& source, const std::string& output) {
  const std::string what = "fetch " + source;
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Weights> weights = Find(*client, source);
  if (!weights.ok()) {
    return session.Fail(what, weights.status(),
                        absl::IsNotFound(weights.status())
                            ? "`lockstep jobs` and `lockstep models` list what there is"
                        : absl::IsUnavailable(weights.status()) ? "try again in a moment"
                                                                : "");
  }
  NewFile file(output);
  if (absl::Status opened = file.Open(); !opened.ok()) return session.Misused(what, opened);
  TransferMeter meter("downloading");
  Client::TransferProgress progress;
  if (!session.json()) progress = std::ref(meter);
  absl::Status status = client->DownloadBlob(
      weights->blob(), [&](std::string_view bytes) { return file.Append(bytes); }, progress);
  if (status.ok()) status = file.Commit();
  if (!status.ok()) return session.Fail(what, status, "");

  if (session.json()) {
    JsonObject()
        .Text("file", output)
        .Integer("size_bytes", weights->blob().size_bytes())
        .Integer("step", weights->step())
        .Text("sha256", weights->blob().sha256())
        .Print();
  } else {
    std::printf("%s: %s, step %lld, SHA-256 %s\n", output.c_str(),
                FormatBytes(weights->blob().size_bytes()).c_str(),
                static_cast<long long>(weights->step()), weights->blob().sha256().c_str());
  }
  return kOk;
}

}  // namespace lockstep
