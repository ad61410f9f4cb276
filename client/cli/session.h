#ifndef LOCKSTEP_CLIENT_CLI_SESSION_H_
#define LOCKSTEP_CLIENT_CLI_SESSION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/lib/client.h"
#include "google/protobuf/message.h"

namespace lockstep {

enum ExitCode {
  kOk = 0,
  kRefused = 1,      // the request was refused, or the job did not succeed
  kUsage = 2,        // the command line or a local file is wrong; nothing was asked
  kUnreachable = 3,  // no server answers
  kDetached = 130,   // Ctrl-C
};

// What one run of the command has: its global options and its connection.
class Session {
 public:
  struct Options {
    std::string server;
    std::string token_file;
    bool json = false;
  };

  explicit Session(Options options) : options_(std::move(options)) {}

  bool json() const { return options_.json; }

  // Connects. When that fails it has been reported, and `exit_code()` says how to end.
  Client* Connect();
  ExitCode exit_code() const { return exit_code_; }

  // Writes "lockstep: <what>: <why>; <what to do>" to standard error and returns the exit code for
  // a status that the server answered. `what_to_do` may be empty; a few statuses have their own.
  ExitCode Fail(const std::string& what, const absl::Status& why, const std::string& what_to_do);
  // The same for what is wrong on this side.
  ExitCode Misused(const std::string& what, const absl::Status& why,
                   const std::string& what_to_do = "");

 private:
  const Options options_;
  std::unique_ptr<Client> client_;
  ExitCode exit_code_ = kOk;
};

// A message as one line of JSON on standard output, with the proto's field names.
void PrintJson(const google::protobuf::Message& message);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// "fashion-cnn" or "fashion-cnn:3"; version 0 when there is none.
struct ModelName {
  std::string name;
  int64_t version = 0;
};
absl::StatusOr<ModelName> ParseModelName(const std::string& text);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_SESSION_H_
