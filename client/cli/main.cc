// The command line of `lockstep`: options and help; what the commands do is in commands.h.

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdio>
#include <functional>

#include "client/cli/commands.h"

namespace lockstep {
namespace {

// Everything the command line can say. `run` is what it asks for.
struct CommandLine {
  Session::Options session;
  SubmitArguments submit;
  std::string job_id;
  int64_t from_sequence = 1;
  FetchArguments fetch;
  PredictArguments predict;
  std::string model, dataset, output_name;
  AddDatasetArguments add_dataset;
  std::function<ExitCode(Session&)> run;
};

CLI::App* AddCommand(CLI::App& app, CommandLine& line, const std::string& name,
                     const std::string& description, const std::string& example,
                     std::function<ExitCode(Session&)> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  command->callback([&line, run = std::move(run)] { line.run = run; });
  return command;
}

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

void AddJobCommands(CLI::App& app, CommandLine& line) {
  CLI::App* submit =
      AddCommand(app, line, "submit",
                 "Hands in a training job: a JobSpec in JSON, a Keras model with data, or both.",
                 "lockstep submit fashion-cnn.json --watch\n"
                 "  lockstep submit --keras model.json --data fashion.npz --epochs 5 --watch",
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
  submit
      ->add_option("--threads", line.submit.threads,
                   "Threads it may use; the result is the same for any number")
      ->check(CLI::PositiveNumber);

  CLI::App* explain = AddCommand(
      app, line, "explain",
      "Says what a job would be, without training it: layers, shapes, parameters, arithmetic,\n"
      "memory and how long it is likely to take.",
      "lockstep explain fashion-cnn.json",
      [&line](Session& session) { return ExplainJob(session, line.submit.file); });
  explain->add_option("JOB.json", line.submit.file, "The job's spec")->required();

  AddCommand(app, line, "jobs", "Lists the jobs, newest first.", "lockstep jobs", &ListJobs);

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

  CLI::App* cancel = AddCommand(
      app, line, "cancel", "Ends a job that is queued or running.", "lockstep cancel my-job",
      [&line](Session& session) { return CancelJob(session, line.job_id); });
  cancel->add_option("ID", line.job_id, "The job")->required();
}

void AddModelCommands(CLI::App& app, CommandLine& line) {
  CLI::App* fetch = AddCommand(
      app, line, "fetch",
      "Downloads weights as a safetensors file: a model's, or a job's (of a running one\n"
      "as they were after its last finished step).",
      "lockstep fetch fashion-cnn:1 -o weights.safetensors\n"
      "  lockstep fetch fashion-cnn:1 --keras-json model.json",
      [&line](Session& session) { return Fetch(session, line.fetch); });
  fetch->add_option("JOB_OR_MODEL", line.fetch.source, "A job's id, MODEL or MODEL:VERSION")
      ->required();
  CLI::Option_group* files = fetch->add_option_group("files", "What to write");
  files->add_option("-o,--output", line.fetch.output, "The file for the weights");
  files->add_option("--keras-json", line.fetch.keras_json,
                    "The file for the model as JSON, for keras.models.model_from_json");
  files->require_option(1, 2);

  CLI::App* predict = AddCommand(
      app, line, "predict", "Asks a model about samples of a data set or a .npy or IDX file.",
      "lockstep predict fashion-cnn --dataset fashion-mnist-test --first 10",
      [&line](Session& session) { return Predict(session, line.predict); });
  predict->add_option("MODEL", line.predict.model, "MODEL or MODEL:VERSION; else the newest")
      ->required();
  CLI::Option_group* samples = predict->add_option_group("samples", "Where the samples are");
  samples->add_option("--dataset", line.predict.dataset, "A registered data set");
  samples->add_option("--input", line.predict.input, "A local file");
  samples->require_option(1);
  predict->add_option("--first", line.predict.first, "How many, from the first (default 10)")
      ->check(CLI::PositiveNumber);
  predict->add_option("--output-name", line.predict.output,
                      "Which output, of a model with several");

  CLI::App* evaluate = AddCommand(
      app, line, "evaluate", "Measures a model on a data set: loss and, for classes, accuracy.",
      "lockstep evaluate fashion-cnn --dataset fashion-mnist-test", [&line](Session& session) {
        return Evaluate(session, line.model, line.dataset, line.output_name);
      });
  evaluate->add_option("MODEL", line.model, "MODEL or MODEL:VERSION; else the newest")->required();
  evaluate->add_option("--dataset", line.dataset, "A registered data set")->required();
  evaluate->add_option("--output-name", line.output_name, "Which output, of a model with several");

  AddCommand(app, line, "models", "Lists the newest version of every model.", "lockstep models",
             &ListModels);
}

void AddDatasetCommands(CLI::App& app, CommandLine& line) {
  CLI::App* datasets = app.add_subcommand("datasets", "Registers and lists data sets.");
  datasets->require_subcommand(1);
  CLI::App* add =
      AddCommand(*datasets, line, "add",
                 "Uploads and registers a data set: inputs x and labels y. An upload that was cut\n"
                 "off goes on where it stopped.",
                 "lockstep datasets add digits --x images.idx.gz --y labels.idx.gz\n"
                 "  lockstep datasets add digits --npz digits.npz\n"
                 "  lockstep datasets add iris --csv iris.csv --label species",
                 [&line](Session& session) { return AddDataset(session, line.add_dataset); });
  AddDatasetArguments& arguments = line.add_dataset;
  add->add_option("NAME", arguments.name, "Its name")->required();
  CLI::Option* x = add->add_option("--x", arguments.x, "Inputs: an IDX(.gz) or .npy file");
  CLI::Option* y = add->add_option("--y", arguments.y, "Labels or targets: the same");
  CLI::Option* npz = add->add_option("--npz", arguments.npz, "Every array of a .npz file, by name");
  CLI::Option* csv = add->add_option("--csv", arguments.csv, "A table: one sample a row");
  x->needs(y)->excludes(npz)->excludes(csv);
  y->needs(x);
  npz->excludes(csv);
  add->add_option("--label", arguments.label_column,
                  "The CSV's label column, by name or number from 0 (default: the last)")
      ->needs(csv);
  add->add_flag("--regression", arguments.regression,
                "The CSV's label is a number to predict, not a class")
      ->needs(csv);
  add->callback([&line] {
    const AddDatasetArguments& given = line.add_dataset;
    if (given.x.empty() && given.npz.empty() && given.csv.empty()) {
      throw CLI::RequiredError("--x and --y, --npz or --csv");
    }
    line.run = [&line](Session& session) { return AddDataset(session, line.add_dataset); };
  });
  AddCommand(*datasets, line, "list", "Lists the data sets.", "lockstep datasets list",
             &ListDatasets);
}

ExitCode Explain(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = "lockstep";
  const CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) {
    deepest = deepest->get_subcommands()[0];
    command += " " + deepest->get_name();
  }
  // CLI11 reports a misspelt command as one that is missing.
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const std::string why =
      unknown.empty() || error.get_exit_code() != static_cast<int>(CLI::ExitCodes::RequiredError)
          ? error.what()
          : "'" + unknown[0] + "' is unknown";
  std::fprintf(stderr, "lockstep: usage: %s; `%s --help` explains\n", why.c_str(), command.c_str());
  return kUsage;
}

int Main(int argc, char** argv) {
  CommandLine line;
  line.session.server = "127.0.0.1:8001";
  CLI::App app(
      "Trains neural networks on a Lockstep server, watches them and asks them.\n"
      "Exit codes: 0 ok, 1 refused or the job did not succeed, 2 usage, 3 no server\n"
      "answers, 130 detached by Ctrl-C.",
      "lockstep");
  app.set_version_flag("--version", "lockstep " LOCKSTEP_VERSION);
  app.require_subcommand(1);
  app.fallthrough();  // global options may stand behind the command
  app.add_option("--server", line.session.server,
                 "HOST:PORT (default: $LOCKSTEP_SERVER, then 127.0.0.1:8001)")
      ->envname("LOCKSTEP_SERVER");
  app.add_option("--token-file", line.session.token_file,
                 "File with the server's token (default: $LOCKSTEP_TOKEN_FILE)")
      ->envname("LOCKSTEP_TOKEN_FILE");
  app.add_flag("--json", line.session.json, "Answers in JSON, one object a line");
  AddJobCommands(app, line);
  AddModelCommands(app, line);
  AddDatasetCommands(app, line);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return Explain(app, error);
  }
  Session session(line.session);
  return line.run(session);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");  // says whether the terminal takes UTF-8
  return lockstep::Main(argc, argv);
}
