#include <fmt/format.h>

#include <cstdio>
#include <span>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_file.h"
#include "client/cli/job_view.h"
#include "client/cli/new_file.h"
#include "client/cli/run_options.h"
#include "client/cli/watch_view.h"

namespace lockstep {
namespace {

const char* SubmitAdvice(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "correct it and submit again";
    case absl::StatusCode::kAlreadyExists:
      return "choose another --id";
    case absl::StatusCode::kNotFound:
      return "`lockstep datasets add` registers a data set";
    default:
      return "";
  }
}

// Makes the job start from `source`: MODEL[:VERSION], or a .safetensors file, which is uploaded.
absl::Status SetInitialWeights(Client& client, const std::string& source, v1::JobSpec& spec) {
  v1::InitialWeights& initial = *spec.mutable_initial_weights();
  if (source.ends_with(".safetensors")) {
    absl::StatusOr<std::string> file = ReadFile(source);
    if (!file.ok()) return file.status();
    absl::StatusOr<v1::Blob> blob = client.UploadBlob(std::as_bytes(std::span(*file)), nullptr);
    if (!blob.ok()) return blob.status();
    *initial.mutable_safetensors() = *blob;
    return absl::OkStatus();
  }
  absl::StatusOr<ModelName> model = ParseModelName(source);
  if (!model.ok()) return model.status();
  initial.mutable_model()->set_name(model->name);
  initial.mutable_model()->set_version(model->version);
  return absl::OkStatus();
}

}  // namespace

std::string SubmittedText(const v1::Job& job, bool reuse, absl::Time now) {
  std::string text = "job " + job.id();
  if (!job.fingerprint().empty()) text += "  fingerprint " + ShortHash(job.fingerprint());
  text += "\n";
  // A new job cannot have ended yet.
  if (!reuse || job.state() != v1::SUCCEEDED) return text;
  text += fmt::format("  an earlier job answers, nothing is trained: submitted {}, succeeded {}",
                      FormatAge(job.create_time(), now), FormatAge(job.end_time(), now));
  if (job.has_published()) text += ", model " + PublishedModel(job);
  return text + "\n";
}

ExitCode Submit(Session& session, const SubmitArguments& arguments) {
  const JobOptions& options = arguments.options;
  const std::string& what = arguments.file.empty() ? options.keras : arguments.file;
  absl::StatusOr<JobFile> file = JobFile{};
  if (!arguments.file.empty()) {
    absl::StatusOr<std::string> json = ReadFile(arguments.file);
    if (!json.ok()) return session.Misused("submit", json.status());
    file = ParseJobFile(*json);
    if (!file.ok()) {
      return session.Misused(arguments.file, file.status(),
                             "the fields are those of JobSpec in proto/lockstep/v1/job.proto");
    }
  }
  absl::StatusOr<std::string> keras = std::string();
  if (!options.keras.empty()) {
    keras = ReadFile(options.keras);
    if (!keras.ok()) return session.Misused("submit", keras.status());
  }
  if (absl::Status s = ApplyJobOptions(options, *keras, file->spec); !s.ok()) {
    return session.Misused(what, s);
  }
  if (absl::Status s = ApplyRunOptions(arguments.run, file->spec); !s.ok()) {
    return session.Misused("submit", s);
  }
  if (arguments.profile) file->spec.mutable_resources()->set_profile(true);
  NewFile image(arguments.profile_image);
  const bool draws = !arguments.profile_image.empty();
  if (draws) {
    if (absl::Status opened = image.Open(); !opened.ok()) return session.Misused("submit", opened);
  }
  if (IsDataFile(options.data)) {
    AddDatasetArguments dataset;
    dataset.name = DatasetNameOf(options.data);
    (options.data.ends_with(".csv") ? dataset.csv : dataset.npz) = options.data;
    if (const ExitCode added = AddDataset(session, dataset); added != kOk) return added;
  }
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();

  if (!arguments.initial_weights.empty()) {
    absl::Status set = SetInitialWeights(*client, arguments.initial_weights, file->spec);
    if (!set.ok()) return session.Fail("--initial-weights " + arguments.initial_weights, set, "");
  }

  absl::StatusOr<v1::Job> job = client->SubmitJob(file->spec, arguments.id, arguments.reuse);
  if (!job.ok()) {
    const absl::Status status(job.status().code(), WithLine(*file, job.status()));
    return session.Fail(what, status, SubmitAdvice(status));
  }
  const bool watches = arguments.watch || arguments.profile;
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::fputs(SubmittedText(*job, arguments.reuse, absl::Now()).c_str(), stdout);
    if (!watches) std::printf("next: lockstep watch %s\n", job->id().c_str());
    std::fflush(stdout);
  }
  if (!watches) return kOk;
  return Watch(session, *client, *job,
               {.until_profile = !arguments.watch, .image = draws ? &image : nullptr});
}

}  // namespace lockstep
