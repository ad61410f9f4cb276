// The command line of `lockstep`: options and help; those of jobs are in job_command_line.cc. What
// the commands do is in commands.h.

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdio>

#include "client/cli/command_line.h"

namespace lockstep {
namespace {

void AddVerifyCommand(CLI::App& app, CommandLine& line) {
  VerifyArguments& arguments = line.verify;
  const auto run = [&line](Session& session) { return Verify(session, line.verify); };
  CLI::App* verify =
      AddCommand(app, line, "verify",
                 "Trains again what a receipt is about, and compares the state hashes of the end\n"
                 "and of every epoch. Nothing is published. Exit code 1 if one differs.",
                 "lockstep verify fashion-cnn:1\n"
                 "  lockstep verify fashion-cnn:1 --from-checkpoint 1200\n"
                 "  lockstep verify --receipt receipt.json --threads 2",
                 run);
  CLI::Option* model =
      verify->add_option("MODEL", arguments.model, "MODEL or MODEL:VERSION; else the newest");
  CLI::Option* receipt =
      verify->add_option("--receipt", arguments.receipt,
                         "A receipt's file instead, also from another server; the data sets must\n"
                         "be registered here under the same names");
  receipt->excludes(model);
  verify->add_option("--id", arguments.id, "The name of the job that verifies");
  verify
      ->add_option("--threads", arguments.threads, "Threads it may use; any number gives the same")
      ->check(AtLeastOne());
  CLI::Option* from =
      verify
          ->add_option("--from-checkpoint", arguments.checkpoint_step,
                       "Go on from a checkpoint that the job still keeps, STEP's or else the\n"
                       "newest before the end, instead of from the first step")
          ->type_name("[STEP]")
          ->expected(0, 1)
          ->check(AtLeastOne());
  verify->callback([&line, run, model, receipt, from] {
    if (model->empty() && receipt->empty()) throw CLI::RequiredError("MODEL or --receipt");
    line.verify.from_checkpoint = !from->empty();
    line.run = run;
  });
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
      ->check(AtLeastOne());
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

  CLI::App* receipt = AddCommand(
      app, line, "receipt",
      "Prints a model's receipt as JSON: what anyone needs to train the same model again.",
      "lockstep receipt fashion-cnn:1 -o receipt.json",
      [&line](Session& session) { return ShowReceipt(session, line.model, line.receipt_file); });
  receipt->add_option("MODEL", line.model, "MODEL or MODEL:VERSION; else the newest")->required();
  receipt->add_option("-o,--output", line.receipt_file, "A file instead of standard output");

  AddVerifyCommand(app, line);
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
