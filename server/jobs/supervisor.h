#ifndef LOCKSTEP_SERVER_JOBS_SUPERVISOR_H_
#define LOCKSTEP_SERVER_JOBS_SUPERVISOR_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// Keeps the server's own workers running: starts them, and again when they end, later each time
// they end early (0.1 s to 10 s). They are this executable, started as a new process, and die with
// the server.
class Supervisor {
 public:
  struct Options {
    int workers = 1;
    // Arguments behind the program's name: "work", "--server", "unix:...", ...
    std::vector<std::string> arguments;
    std::string executable = "/proc/self/exe";
  };
  // Starts them; the listener they connect to should be up.
  explicit Supervisor(Options options);
  // Asks them to end (SIGTERM), makes them after 5 s (SIGKILL), reaps them.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Of those that run now. Thread-safe.
  std::vector<pid_t> pids() const;

 private:
  class Child;
  const Options options_;
  std::vector<std::unique_ptr<Child>> children_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_SUPERVISOR_H_
