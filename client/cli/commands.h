#ifndef LOCKSTEP_CLIENT_CLI_COMMANDS_H_
#define LOCKSTEP_CLIENT_CLI_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/job_options.h"
#include "client/cli/run_options.h"
#include "client/cli/session.h"

// The commands, one function each, in files of their names (client/README.md). main.cc and
// job_command_line.cc parse the command line into these arguments.
namespace lockstep {

// Jobs.
struct SubmitArguments {
  std::string file;  // may be empty if the options name a Keras model
  JobOptions options;
  std::string id;
  bool watch = false;
  bool profile = false;
  std::string profile_image;  // a file to write, or empty
  RunOptions run;
  bool reuse = false;
  std::string initial_weights;  // a model or a .safetensors file, or empty
};
ExitCode Submit(Session& session, const SubmitArguments& arguments);
ExitCode ExplainJob(Session& session, const std::string& file);
struct ListJobsArguments {
  std::vector<std::string> states;  // "running"; none: all
  std::vector<std::string> labels;  // "KEY=VALUE"
  int64_t limit = 20;
  bool all = false;
};
ExitCode ListJobs(Session& session, const ListJobsArguments& arguments);
ExitCode ListWorkers(Session& session);
ExitCode ShowJob(Session& session, const std::string& id);
ExitCode WatchJob(Session& session, const std::string& id, int64_t from_sequence);
ExitCode CancelJob(Session& session, const std::string& id);
ExitCode PauseJob(Session& session, const std::string& id);
ExitCode ResumeJob(Session& session, const std::string& id);
ExitCode SetJobPriority(Session& session, const std::string& id, int priority);
// Goes on after one that cannot be deleted.
ExitCode DeleteJobs(Session& session, const std::vector<std::string>& ids);

// Models.
ExitCode ListModels(Session& session);
// To a file, or to standard output if there is none.
ExitCode ShowReceipt(Session& session, const std::string& model, const std::string& output);
struct VerifyArguments {
  std::string model;    // this one's receipt,
  std::string receipt;  // or that in this file
  std::string id;       // of the job that verifies; may be empty
  std::optional<int> threads;
  bool from_checkpoint = false;
  std::optional<int64_t> checkpoint_step;  // else the newest before the end
};
ExitCode Verify(Session& session, const VerifyArguments& arguments);
struct FetchArguments {
  std::string source;      // a job's id, or a model with or without version
  std::string output;      // the file for the weights,
  std::string keras_json;  // that for the model as Keras' JSON; one may be empty
};
ExitCode Fetch(Session& session, const FetchArguments& arguments);
struct PredictArguments {
  std::string model;
  std::string dataset;  // this one,
  std::string input;    // or this file
  std::string output;   // of a model with several
  int64_t first = 10;
};
ExitCode Predict(Session& session, const PredictArguments& arguments);
ExitCode Evaluate(Session& session, const std::string& model, const std::string& dataset,
                  const std::string& output);

// Data sets.
struct AddDatasetArguments {
  std::string name;
  std::string x, y;  // these two,
  std::string npz;   // or this,
  std::string csv;   // or this one
  std::string label_column;
  bool regression = false;
};
ExitCode AddDataset(Session& session, const AddDatasetArguments& arguments);
ExitCode ListDatasets(Session& session);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_COMMANDS_H_
