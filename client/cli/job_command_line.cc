// The part of the command line that is about jobs.

#include "client/cli/command_line.h"

namespace lockstep {
namespace {

// What may stand in place of a job's file, or changes what it says.
void AddJobOptions(CLI::App* submit, JobOptions& options) {
  submit->add_option("--keras", options.keras, "The model: what Keras' model.to_json() gives");
  submit->add_option("--data", options.data,
                     "The training set: a .npz (x and y) or .csv file, which is registered under\n"
                     "its name, or a registered data set");
  submit
      ->add_option("--loss", options.loss,
                   "Of every output; default by its activation: softmax\n"
                   "sparse_categorical_crossentropy, sigmoid binary_crossentropy, else mse")
      ->check(CLI::IsMember({"sparse_categorical_crossentropy", "categorical_crossentropy",
                             "binary_crossentropy", "mean_squared_error", "mean_absolute_error",
                             "huber", "mse", "mae"}));
  submit->add_option("--epochs", options.epochs, "Default with --keras: 10");
  submit->add_option("--batch-size", options.batch_size, "Default with --keras: 32");
  submit->add_option("--optimizer", options.optimizer, "Default: adam")
      ->check(CLI::IsMember({"adam", "sgd", "rmsprop"}));
  submit->add_option("--learning-rate", options.learning_rate, "Default: the optimizer's");
  submit->add_option("--validation-split", options.validation_split,
                     "Fraction of the data, from its end, to validate on");
  submit->add_option("--seed", options.seed, "Of initial values, shuffling and dropout");
  submit->add_option("--publish-as", options.publish_as, "The model's name; default: the job's id");
}

CLI::Option* AddLabelOption(CLI::App* command, std::vector<std::string>& labels,
                            const std::string& help) {
  // One value an option: what stands behind it is not a label.
  return command->add_option("--label", labels, help)
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
}

// Where, when and how safely a job runs.
void AddRunOptions(CLI::App* submit, RunOptions& options) {
  static constexpr char kGroup[] = "How it runs, with the same result";
  const auto add = [&](const std::string& name, auto& value, const std::string& help) {
    return submit->add_option(name, value, help)->group(kGroup);
  };
  add("--threads", options.threads, "Threads it may use")->check(AtLeastOne());
  add("--priority", options.priority,
      "Higher goes first, among equals the older; -1000 to 1000, default 0");
  AddLabelOption(submit, options.labels, "To find the job by (`lockstep jobs --label`); repeatable")
      ->group(kGroup);
  submit
      ->add_flag("--preempt", options.preempt,
                 "May take a worker from a running job of lower priority, which goes on later")
      ->group(kGroup);
  add("--max-seconds", options.max_seconds, "Fail when it has run for longer")->check(AtLeastOne());
  add("--max-memory-mb", options.max_memory_mb, "Fail when its worker takes more (10^6 bytes)")
      ->check(AtLeastOne());
  add("--checkpoint-steps", options.checkpoint_steps, "Save it whenever so many steps are done")
      ->check(AtLeastOne());
  add("--checkpoint-seconds", options.checkpoint_seconds,
      "Save it every so many seconds (default 30)")
      ->check(AtLeastOne());
  add("--keep-checkpoints", options.keep_checkpoints, "Keep the newest so many (default 2)")
      ->check(CLI::Range(1, 100));
  add("--keep-best", options.keep_best,
      "Keep the one after the epoch with the best value of this metric, too: val_loss");
}

void AddSubmit(CLI::App& app, CommandLine& line) {
  CLI::App* submit =
      AddCommand(app, line, "submit",
                 "Hands in a training job: a JobSpec in JSON, a Keras model with data, or both.",
                 "lockstep submit fashion-cnn.json --watch\n"
                 "  lockstep submit --keras model.json --data fashion.npz --epochs 5 --watch\n"
                 "  lockstep submit fashion-cnn.json --label team=vision --priority 5 --reuse",
                 [&line](Session& session) { return Submit(session, line.submit); });
  CLI::Option* file = submit->add_option("JOB.json", line.submit.file, "The job's spec");
  AddJobOptions(submit, line.submit.options);
  submit->callback([&line, file] {
    if (file->empty() && line.submit.options.keras.empty()) {
      throw CLI::RequiredError("JOB.json or --keras");
    }
    line.run = [&line](Session& session) { return Submit(session, line.submit); };
  });
  submit->add_option("--id", line.submit.id,
                     "The job's name; submitting the same again is then harmless");
  submit->add_flag("--watch", line.submit.watch, "Follow the job until it ends");
  CLI::Option* profile = submit->add_flag(
      "--profile", line.submit.profile,
      "Measure where the time of steps 11 to 60 goes, by layer and phase; without --watch\n"
      "the command ends once it has told it");
  submit->add_option("--profile-image", line.submit.profile_image, "An SVG file to draw it to")
      ->needs(profile);
  submit->add_option(
      "--initial-weights", line.submit.initial_weights,
      "Where the weights start from: MODEL, MODEL:VERSION or FILE.safetensors, which is uploaded;\n"
      "the job's initial_weights says how its tensors are named and which layers it is for");
  submit->add_flag("--reuse", line.submit.reuse,
                   "Let the newest succeeded job of the same result answer, if there is one,\n"
                   "instead of training again");
  AddRunOptions(submit, line.submit.run);
}

// A command about one job that is there.
void AddJobCommand(CLI::App& app, CommandLine& line, const std::string& name,
                   const std::string& description, ExitCode (*run)(Session&, const std::string&)) {
  AddCommand(app, line, name, description, "lockstep " + name + " my-job",
             [&line, run](Session& session) { return run(session, line.job_id); })
      ->add_option("ID", line.job_id, "The job")
      ->required();
}

void AddControlCommands(CLI::App& app, CommandLine& line) {
  AddJobCommand(app, line, "pause",
                "Takes a job off its worker, after a checkpoint, until it is resumed.", &PauseJob);
  AddJobCommand(app, line, "resume", "Queues a paused job again; it goes on where it was.",
                &ResumeJob);
  AddJobCommand(app, line, "cancel", "Ends a job that is queued, running or paused.", &CancelJob);

  CLI::App* priority = AddCommand(
      app, line, "set-priority",
      "Says how soon a job gets a worker: higher goes first, among equals the older.",
      "lockstep set-priority my-job 10",
      [&line](Session& session) { return SetJobPriority(session, line.job_id, line.priority); });
  priority->add_option("ID", line.job_id, "The job")->required();
  priority->add_option("N", line.priority, "From -1000 to 1000; 0 is where jobs begin")->required();

  CLI::App* remove = AddCommand(
      app, line, "delete", "Forgets jobs that have ended, their logs and checkpoints; models stay.",
      "lockstep delete my-job another-job",
      [&line](Session& session) { return DeleteJobs(session, line.job_ids); });
  remove->add_option("ID", line.job_ids, "The jobs")->required();
}

}  // namespace

void AddJobCommands(CLI::App& app, CommandLine& line) {
  AddSubmit(app, line);

  CLI::App* explain = AddCommand(
      app, line, "explain",
      "Says what a job would be, without training it: layers, shapes, parameters, arithmetic,\n"
      "memory and how long it is likely to take.",
      "lockstep explain fashion-cnn.json",
      [&line](Session& session) { return ExplainJob(session, line.submit.file); });
  explain->add_option("JOB.json", line.submit.file, "The job's spec")->required();

  CLI::App* jobs =
      AddCommand(app, line, "jobs", "Lists the jobs, newest first.",
                 "lockstep jobs --state running,queued --label team=vision --limit 50",
                 [&line](Session& session) { return ListJobs(session, line.list_jobs); });
  ListJobsArguments& list = line.list_jobs;
  jobs->add_option("--state", list.states,
                   "Only those that are queued, running, paused, succeeded, failed or cancelled")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("STATE[,STATE]");
  AddLabelOption(jobs, list.labels, "Only those with this label; repeat it for more");
  CLI::Option* limit = jobs->add_option("--limit", list.limit, "The newest so many (default 20)")
                           ->check(AtLeastOne());
  jobs->add_flag("--all", list.all, "All of them")->excludes(limit);

  AddCommand(app, line, "workers", "Lists the workers that are connected, and what each does.",
             "lockstep workers", &ListWorkers);

  CLI::App* show =
      AddCommand(app, line, "show", "Says everything about a job.", "lockstep show my-job --json",
                 [&line](Session& session) { return ShowJob(session, line.job_id); });
  show->add_option("ID", line.job_id, "The job")->required();

  CLI::App* watch = AddCommand(
      app, line, "watch",
      "Follows a job until it ends; one that has ended is told from its log.\n"
      "Ctrl-C detaches, the job goes on.",
      "lockstep watch my-job --from 120",
      [&line](Session& session) { return WatchJob(session, line.job_id, line.from_sequence); });
  watch->add_option("ID", line.job_id, "The job")->required();
  watch->add_option("--from", line.from_sequence, "The first event to show, from 1")
      ->check(CLI::NonNegativeNumber);

  AddControlCommands(app, line);
}

}  // namespace lockstep
