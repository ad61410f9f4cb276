#ifndef LOCKSTEP_CLIENT_CLI_COMMANDS_H_
#define LOCKSTEP_CLIENT_CLI_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "client/cli/job_options.h"
#include "client/cli/session.h"

// The commands, one function each, in jobs.cc, datasets.cc, models.cc, fetch.cc, predict.cc and
// evaluate.cc. main.cc parses the command line into these arguments.
namespace lockstep {

// Jobs.
struct SubmitArguments {
  std::string file;  // may be empty if the options name a Keras model
  JobOptions options;
  std::string id;
  bool watch = false;
  bool profile = false;
  std::string profile_image;  // a file to write, or empty
  std::optional<int> threads;
  std::string initial_weights;  // a model or a .safetensors file, or empty
};
ExitCode Submit(Session& session, const SubmitArguments& arguments);
ExitCode ExplainJob(Session& session, const std::string& file);
ExitCode ListJobs(Session& session);
ExitCode ShowJob(Session& session, const std::string& id);
ExitCode WatchJob(Session& session, const std::string& id, int64_t from_sequence);
ExitCode CancelJob(Session& session, const std::string& id);

// Models.
ExitCode ListModels(Session& session);
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
