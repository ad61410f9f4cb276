#include "client/cli/session.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"

namespace lockstep {
namespace {

void Complain(const std::string& what, const std::string& why, const std::string& what_to_do) {
  std::string line = "lockstep: " + what + ": " + why;
  if (!what_to_do.empty()) line += "; " + what_to_do;
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace

Client* Session::Connect() {
  ClientOptions options;
  options.address = options_.server;
  if (!options_.token_file.empty()) {
    absl::StatusOr<std::string> token = ReadFile(options_.token_file);
    if (!token.ok()) {
      exit_code_ = Misused("token file", token.status());
      return nullptr;
    }
    options.token = token->substr(0, token->find_last_not_of(" \t\r\n") + 1);
  }
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options);
  if (!client.ok()) {
    exit_code_ = Fail("cannot reach the server", client.status(), "");
    return nullptr;
  }
  client_ = *std::move(client);
  return client_.get();
}

ExitCode Session::Fail(const std::string& what, const absl::Status& why,
                       const std::string& what_to_do) {
  if (absl::IsUnavailable(why) && (client_ == nullptr || !client_->connected())) {
    Complain(what, std::string(why.message()),
             "start one with `lockstepd serve`, or name another with --server HOST:PORT");
    return kUnreachable;
  }
  std::string advice = what_to_do;
  if (absl::IsUnimplemented(why)) {
    Complain(what, "the server does not know how to", "it is older than this command");
    return kRefused;
  }
  if (absl::IsUnauthenticated(why)) {
    advice = "pass the server's token with --token-file or $LOCKSTEP_TOKEN_FILE";
  } else if (absl::IsDeadlineExceeded(why)) {
    advice = "the server is there but slow; try again";
  }
  Complain(what, std::string(why.message()), advice);
  return kRefused;
}

ExitCode Session::Misused(const std::string& what, const absl::Status& why,
                          const std::string& what_to_do) {
  Complain(what, std::string(why.message()), what_to_do);
  return kUsage;
}

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!printed.ok()) json = "null";  // only Any and out-of-range timestamps cannot be printed
  std::printf("%s\n", json.c_str());
  std::fflush(stdout);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file.is_open() && file.peek() != std::ifstream::traits_type::eof()) content << file.rdbuf();
  if (!file.is_open() || file.bad() || content.fail()) {
    return absl::NotFoundError(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  }
  return std::move(content).str();
}

absl::StatusOr<ModelName> ParseModelName(const std::string& text) {
  ModelName model;
  const size_t colon = text.find(':');
  model.name = text.substr(0, colon);
  if (model.name.empty() ||
      (colon != std::string::npos &&
       (!absl::SimpleAtoi(text.substr(colon + 1), &model.version) || model.version < 1))) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is no MODEL or MODEL:VERSION with a version from 1", text));
  }
  return model;
}

}  // namespace lockstep
