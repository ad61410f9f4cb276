#include <fmt/format.h>

#include <cstdio>
#include <functional>

#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json_object.h"
#include "client/cli/new_file.h"
#include "client/cli/transfer_meter.h"
#include "core/keras/keras_model.h"

namespace lockstep {
namespace {

// A model's version; `source` is known not to be a job.
absl::StatusOr<v1::ModelVersion> FindModel(Client& client, const std::string& source) {
  absl::StatusOr<ModelName> name = ParseModelName(source);
  if (!name.ok()) return name.status();
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name->name, name->version);
  if (absl::IsNotFound(model.status()) && name->version == 0) {
    return absl::NotFoundError(fmt::format("there is neither a job nor a model '{}'", source));
  }
  return model;
}

bool MayBeJob(const std::string& source) { return source.find(':') == std::string::npos; }

absl::StatusOr<v1::Weights> FindWeights(Client& client, const std::string& source) {
  if (MayBeJob(source)) {
    absl::StatusOr<v1::Weights> weights = client.GetJobWeights(source);
    if (!absl::IsNotFound(weights.status())) return weights;
  }
  absl::StatusOr<v1::ModelVersion> model = FindModel(client, source);
  if (!model.ok()) return model.status();
  v1::Weights weights;
  *weights.mutable_blob() = model->weights();
  weights.set_step(model->receipt().steps());
  return weights;
}

absl::StatusOr<v1::ModelSpec> FindSpec(Client& client, const std::string& source) {
  if (MayBeJob(source)) {
    absl::StatusOr<v1::Job> job = client.GetJob(source);
    if (job.ok()) return job->spec().model();
    if (!absl::IsNotFound(job.status())) return job.status();
  }
  absl::StatusOr<v1::ModelVersion> model = FindModel(client, source);
  if (!model.ok()) return model.status();
  return model->spec();
}

ExitCode NotFound(Session& session, const std::string& what, const absl::Status& status) {
  return session.Fail(what, status,
                      absl::IsNotFound(status)
                          ? "`lockstep jobs` and `lockstep models` list what there is"
                      : absl::IsUnavailable(status) ? "try again in a moment"
                                                    : "");
}

ExitCode WriteWeights(Session& session, Client& client, const std::string& source,
                      const std::string& output) {
  const std::string what = "fetch " + source;
  absl::StatusOr<v1::Weights> weights = FindWeights(client, source);
  if (!weights.ok()) return NotFound(session, what, weights.status());
  NewFile file(output);
  if (absl::Status opened = file.Open(); !opened.ok()) return session.Misused(what, opened);
  TransferMeter meter("downloading");
  Client::TransferProgress progress;
  if (!session.json()) progress = std::ref(meter);
  absl::Status status = client.DownloadBlob(
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

ExitCode WriteKerasJson(Session& session, Client& client, const std::string& source,
                        const std::string& output) {
  const std::string what = "fetch " + source;
  absl::StatusOr<v1::ModelSpec> spec = FindSpec(client, source);
  if (!spec.ok()) return NotFound(session, what, spec.status());
  absl::StatusOr<std::string> json = ModelToKeras(*spec);
  if (!json.ok()) return session.Fail(what, json.status(), "");
  NewFile file(output);
  absl::Status status = file.Open();
  if (status.ok()) status = file.Append(*json + "\n");
  if (status.ok()) status = file.Commit();
  if (!status.ok()) return session.Misused(what, status);
  if (session.json()) {
    JsonObject().Text("file", output).Integer("size_bytes", json->size() + 1).Print();
  } else {
    std::printf("%s: %s\n", output.c_str(), FormatBytes(json->size() + 1).c_str());
  }
  return kOk;
}

}  // namespace

ExitCode Fetch(Session& session, const FetchArguments& arguments) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  ExitCode code = kOk;
  if (!arguments.output.empty()) {
    code = WriteWeights(session, *client, arguments.source, arguments.output);
  }
  if (code == kOk && !arguments.keras_json.empty()) {
    code = WriteKerasJson(session, *client, arguments.source, arguments.keras_json);
  }
  return code;
}

}  // namespace lockstep
