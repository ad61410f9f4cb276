#ifndef LOCKSTEP_CLIENT_CLI_COMMAND_LINE_H_
#define LOCKSTEP_CLIENT_CLI_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "client/cli/commands.h"

namespace lockstep {

// Everything the command line can say. `run` is what it asks for.
struct CommandLine {
  Session::Options session;
  SubmitArguments submit;
  ListJobsArguments list_jobs;
  std::string job_id;
  std::vector<std::string> job_ids;
  int priority = 0;
  int64_t from_sequence = 1;
  FetchArguments fetch;
  PredictArguments predict;
  VerifyArguments verify;
  std::string model, dataset, output_name, receipt_file;
  AddDatasetArguments add_dataset;
  std::function<ExitCode(Session&)> run;
};

// A command that runs `run`; `example` is shown in its help.
CLI::App* AddCommand(CLI::App& app, CommandLine& line, const std::string& name,
                     const std::string& description, const std::string& example,
                     std::function<ExitCode(Session&)> run);

// A whole number from 1 on.
CLI::Validator AtLeastOne();

// The commands about jobs. `line` must outlive the app.
void AddJobCommands(CLI::App& app, CommandLine& line);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_COMMAND_LINE_H_
