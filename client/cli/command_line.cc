#include "client/cli/command_line.h"

#include <utility>

#include "absl/strings/numbers.h"

namespace lockstep {

CLI::App* AddCommand(CLI::App& app, CommandLine& line, const std::string& name,
                     const std::string& description, const std::string& example,
                     std::function<ExitCode(Session&)> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  command->callback([&line, run = std::move(run)] { line.run = run; });
  return command;
}

CLI::Validator AtLeastOne() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        int64_t number = 0;
        if (absl::SimpleAtoi(text, &number) && number >= 1) return "";
        return "'" + text + "' is no whole number from 1 on";
      },
      "FROM 1");
}

}  // namespace lockstep
