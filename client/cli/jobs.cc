#include <fmt/format.h>

#include <cstdio>
#include <span>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/job_file.h"
#include "client/cli/new_file.h"
#include "client/cli/progress_line.h"
#include "client/cli/watch_view.h"

namespace lockstep {
namespace {

constexpr char kSeeJobs[] = "`lockstep jobs` lists what there is";

std::string Steps(const v1::Progress& progress) {
  return fmt::format("{}/{}", progress.step(), progress.total_steps());
}

std::string Loss(const v1::Progress& progress) {
  for (const v1::Metric& metric : progress.metrics()) {
    if (metric.name() == "loss") return FormatMetric(metric.value());
  }
  return "-";
}

std::string PublishedModel(const v1::Job& job) {
  if (!job.has_published()) return "-";
  return fmt::format("{}:{}", job.published().name(), job.published().version());
}

void PrintField(const std::string& name, const std::string& value) {
  if (!value.empty()) std::printf("%-12s %s\n", name.c_str(), value.c_str());
}

void PrintJob(const v1::Job& job) {
  const absl::Time now = absl::Now();
  const v1::JobSpec& spec = job.spec();
  PrintField("job", job.id());
  PrintField("state", job.state_reason().empty()
                          ? StateName(job.state())
                          : StateName(job.state()) + ": " + job.state_reason());
  PrintField("attempt", std::to_string(job.attempt()));
  PrintField("submitted", FormatAge(job.create_time(), now));
  PrintField("started", FormatAge(job.start_time(), now));
  PrintField("ended", FormatAge(job.end_time(), now));
  PrintField("steps", fmt::format("{} ({} an epoch, {} epochs)", Steps(job.progress()),
                                  job.progress().steps_per_epoch(), job.progress().epochs()));
  for (const v1::Metric& metric : job.progress().metrics()) {
    PrintField(metric.name(), FormatMetric(metric.value()));
  }
  PrintField("train", spec.data().train().dataset());
  PrintField("validation", spec.data().validation().dataset());
  PrintField("training", Describe(spec.training()));
  PrintField("input", Describe(spec.model().inputs(0)));
  for (int i = 0; i < spec.model().layers_size(); ++i) {
    PrintField(fmt::format("layers[{}]", i), Describe(spec.model().layers(i)));
  }
  PrintField("fingerprint", job.fingerprint());
  PrintField("contract", job.contract());
  PrintField("model", PublishedModel(job));
  PrintField("state hash", job.state_hash());
}

const char* SubmitAdvice(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "correct it and submit again";
    case absl::StatusCode::kAlreadyExists:
      return "choose another --id";
    case absl::StatusCode::kNotFound:
      return "`lockstep datasets add` registers a data set";
    case absl::StatusCode::kResourceExhausted:
      return "make the batch or the model smaller";
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
  if (arguments.threads.has_value()) {
    file->spec.mutable_resources()->set_threads(*arguments.threads);
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

  absl::StatusOr<v1::Job> job = client->SubmitJob(file->spec, arguments.id);
  if (!job.ok()) {
    const absl::Status status(job.status().code(), WithLine(*file, job.status()));
    return session.Fail(what, status, SubmitAdvice(status));
  }
  const bool watches = arguments.watch || arguments.profile;
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::printf("job %s\n", job->id().c_str());
    if (!watches) std::printf("next: lockstep watch %s\n", job->id().c_str());
    std::fflush(stdout);
  }
  if (!watches) return kOk;
  return Watch(session, *client, *job,
               {.until_profile = !arguments.watch, .image = draws ? &image : nullptr});
}

ExitCode ListJobs(Session& session) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<std::vector<v1::Job>> jobs = client->ListJobs();
  if (!jobs.ok()) return session.Fail("jobs", jobs.status(), "");
  if (session.json()) {
    for (const v1::Job& job : *jobs) PrintJson(job);
    return kOk;
  }
  if (jobs->empty()) {
    std::printf("no jobs yet; `lockstep submit JOB.json --watch` starts one\n");
    return kOk;
  }
  Table table({"JOB", "STATE", "STEPS", "LOSS", "MODEL", "SUBMITTED"});
  for (const v1::Job& job : *jobs) {
    table.AddRow({job.id(), StateName(job.state()), Steps(job.progress()), Loss(job.progress()),
                  PublishedModel(job), FormatAge(job.create_time(), absl::Now())});
  }
  std::fputs(table.ToString().c_str(), stdout);
  return kOk;
}

ExitCode ShowJob(Session& session, const std::string& id) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = client->GetJob(id);
  if (!job.ok()) return session.Fail("show " + id, job.status(), kSeeJobs);
  if (session.json()) {
    PrintJson(*job);
  } else {
    PrintJob(*job);
  }
  return kOk;
}

ExitCode WatchJob(Session& session, const std::string& id, int64_t from_sequence) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = client->GetJob(id);
  if (!job.ok()) return session.Fail("watch " + id, job.status(), kSeeJobs);
  return Watch(session, *client, *job, {.from_sequence = from_sequence});
}

ExitCode CancelJob(Session& session, const std::string& id) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Job> job = client->CancelJob(id);
  if (!job.ok()) {
    return session.Fail("cancel " + id, job.status(),
                        absl::IsNotFound(job.status()) ? kSeeJobs : "");
  }
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::printf("%s %s\n", id.c_str(), StateName(job->state()).c_str());
  }
  return kOk;
}

}  // namespace lockstep
