#include "client/cli/command_line.h"

#include <utility>

namespace lockstep {

CLI::App* AddCommand(CLI::App& app, CommandLine& line, const std::string& name,
                     const std::string& description, const std::string& example,
                     std::function<ExitCode(Session&)> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  command->callback([&line, run = std::move(run)] { line.run = run; });
  return command;
}

}  // namespace lockstep
