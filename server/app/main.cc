#include <grpc/support/log.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "absl/strings/str_cat.h"
#include "server/app/serve.h"
#include "server/app/token_file.h"
#include "server/telemetry/log.h"
#include "server/worker/worker.h"

namespace lockstep {
namespace {

// gRPC says a lot about what is no trouble of ours, and nothing that a status does not say, too.
void LogFromGrpc(gpr_log_func_args* args) {
  LogLine(LogLevel::kDebug, "grpc", {{"text", args->message}});
}

void AddLogFormat(CLI::App* command, std::string& format) {
  command
      ->add_option("--log-format", format,
                   "Of the lines on standard error: text (time level message key=value ...) or\n"
                   "json (an object a line); SPDLOG_LEVEL=debug shows every RPC")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

CLI::App* AddServe(CLI::App& app, ServeOptions& options) {
  CLI::App* serve = app.add_subcommand(
      "serve", "Takes jobs, trains them with local workers, answers inference requests");
  serve->add_option("--data-dir", options.data_directory, "Where everything is kept")
      ->capture_default_str();
  serve->add_option("--listen", options.listen, "HOST:PORT; port 0 takes any free one")
      ->capture_default_str();
  serve->add_option(
      "--http", options.http,
      absl::StrCat("HOST:PORT of the dashboard, /metrics, /healthz and /readyz; \"\": none\n"
                   "[",
                   kDefaultHttp, ", none if that is in use]"));
  serve->add_option("--local-workers", options.local_workers, "Worker processes to start")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  serve->add_option("--threads", options.threads, "Of each local worker; 0: all CPUs")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  serve->add_option("--token-file", options.token_file,
                    "Clients must send `authorization: Bearer <what this file holds>`");
  serve->add_flag("--insecure", options.insecure, "Listen beyond this machine without a token");
  serve->add_option("--max-message-mb", options.max_message_mb, "Largest request and answer")
      ->check(CLI::Range(4, 1024))
      ->capture_default_str();
  serve
      ->add_option(
          "--max-job-memory-mb", options.max_job_memory_mb,
          "Larger jobs are refused; 0: three quarters of the machine's or container's memory")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  serve
      ->add_option("--max-queue", options.max_queue,
                   "Inference requests that may wait, for each model version")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  serve
      ->add_option("--worker-grace-seconds", options.worker_grace_seconds,
                   "How long a job waits for a lost worker that was not started here; then it is\n"
                   "given to another")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  serve
      ->add_option("--keep-jobs", options.keep_jobs,
                   "Ended jobs beyond the newest so many are deleted, models stay; 0: all are kept")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  serve
      ->add_option("--keep-jobs-days", options.keep_jobs_days,
                   "Jobs that ended so many days ago are deleted, models stay; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddLogFormat(serve, options.log_format);
  return serve;
}

CLI::App* AddWork(CLI::App& app, WorkerOptions& options, std::string& token_file,
                  std::string& log_format) {
  CLI::App* work = app.add_subcommand("work", "Trains what a server gives it");
  work->add_option("--server", options.server, "unix:PATH or HOST:PORT")->required();
  work->add_option("--token-file", token_file, "The server's worker.token")->required();
  work->add_option("--cache-dir", options.cache_directory, "For copies of data sets")->required();
  work->add_option("--threads", options.threads, "0: all CPUs")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  work->add_flag("--die-with-parent", options.die_with_parent,
                 "End when the process that started it does");
  work->add_option("--grace-seconds", options.grace_seconds,
                   "How long it trains on and looks for a server that is gone")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  AddLogFormat(work, log_format);
  return work;
}

int Main(int argc, char** argv) {
  CLI::App app("Lockstep's server: trains neural networks as a service, to the same bits.",
               "lockstepd");
  app.require_subcommand(1);
  ServeOptions serve_options;
  WorkerOptions worker_options;
  std::string worker_token_file;
  CLI::App* serve = AddServe(app, serve_options);
  std::string worker_log_format = "text";
  AddWork(app, worker_options, worker_token_file, worker_log_format);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }

  const std::string& log_format = serve->parsed() ? serve_options.log_format : worker_log_format;
  SetUpLogging(log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  gpr_set_log_function(LogFromGrpc);
  // Before the first thread, so that every thread inherits it. A reader of our log that goes away
  // must not take the server along.
  signal(SIGPIPE, SIG_IGN);
  if (serve->parsed()) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    return Serve(serve_options);
  }
  absl::StatusOr<std::string> token = ReadTokenFile(worker_token_file);
  if (!token.ok()) {
    LogRefusal("--token-file: " + std::string(token.status().message()));
    return kExitUsage;
  }
  worker_options.token = [worker_token_file] { return ReadTokenFile(worker_token_file); };
  return RunWorker(worker_options);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    return lockstep::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lockstepd: %s\n", error.what());
    return 1;
  }
}
