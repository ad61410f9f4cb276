#include "server/app/serve.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <optional>

#include "server/telemetry/log.h"

namespace lockstep {
namespace {

void WaitForStopSignal() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  int signal_number = 0;
  sigwait(&stop, &signal_number);
  LogLine(LogLevel::kInfo, "server stopping", {{"signal", strsignal(signal_number)}});
  // Who cannot wait sends a second one.
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
}

// Every watcher and every open log is a descriptor, and the usual limit is for interactive use.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int Serve(const ServeOptions& options) {
  RaiseDescriptorLimit();
  umask(0077);  // what a server keeps is nobody else's to read, its socket nobody's to open
  Server server(options);
  std::optional<Refusal> refusal = server.CheckOptions();
  if (!refusal.has_value()) refusal = server.OpenData();
  if (!refusal.has_value()) refusal = server.Listen();
  if (refusal.has_value()) {
    LogRefusal(refusal->message);
    server.Stop();
    return refusal->exit_code;
  }
  server.StartWork();
  WaitForStopSignal();
  server.Stop();
  LogLine(LogLevel::kInfo, "server stopped");
  return 0;
}

}  // namespace lockstep
