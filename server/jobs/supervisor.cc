#include "server/jobs/supervisor.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/telemetry/log.h"

extern "C" char** environ;

namespace lockstep {
namespace {

constexpr absl::Duration kFirstDelay = absl::Milliseconds(100);
constexpr absl::Duration kLongestDelay = absl::Seconds(10);
// A worker that lived this long was fine: the delay starts from the beginning.
constexpr absl::Duration kHealthyLife = absl::Seconds(10);
constexpr absl::Duration kGrace = absl::Seconds(5);

std::string Describe(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return absl::StrCat("exit code ", info.si_status);
  return absl::StrCat("signal ", info.si_status, " (", strsignal(info.si_status), ")");
}

// The new process, or -1 with errno set. posix_spawn, never fork: gRPC has threads.
pid_t Spawn(const std::string& executable, const std::vector<std::string>& arguments) {
  std::vector<char*> argv = {const_cast<char*>("lockstepd")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  // Nothing of the server leaks into the worker: no descriptor but the three standard ones, no
  // blocked or ignored signal.
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", 0, 0);
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = -1;
  errno = posix_spawn(&pid, executable.c_str(), &files, &attributes, argv.data(), environ);
  const bool ok = errno == 0;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return ok ? pid : -1;
}

}  // namespace

// One worker and the thread that looks after it. The thread lives as long as the Child, so that a
// worker's parent-death signal, which Linux ties to the starting thread, comes when it should.
class Supervisor::Child {
 public:
  Child(int number, const Options& options)
      : number_(number), options_(options), thread_([this] { Loop(); }) {}

  void Stop() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    if (pid_ > 0) kill(pid_, SIGTERM);
  }

  void Join() ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      const auto gone = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return pid_ <= 0; };
      if (!mu_.AwaitWithTimeout(absl::Condition(&gone), kGrace)) {
        LogLine(LogLevel::kWarning, "worker does not end, killing it",
                {{"local_worker", number_}, {"pid", pid_}});
        kill(pid_, SIGKILL);
      }
    }
    thread_.join();
  }

  pid_t pid() const ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    return pid_;
  }

 private:
  void Loop() {
    absl::Duration delay = kFirstDelay;
    while (Start()) {
      const absl::Time started = absl::Now();
      Reap();
      if (absl::Now() - started >= kHealthyLife) delay = kFirstDelay;
      absl::MutexLock lock(&mu_);
      if (mu_.AwaitWithTimeout(absl::Condition(&stopping_), delay)) return;
      delay = std::min(2 * delay, kLongestDelay);
    }
  }

  // False when there shall be no more workers.
  bool Start() {
    absl::MutexLock lock(&mu_);
    if (stopping_) return false;
    pid_ = Spawn(options_.executable, options_.arguments);
    if (pid_ > 0) {
      LogLine(LogLevel::kInfo, "worker started", {{"local_worker", number_}, {"pid", pid_}});
    } else {
      LogLine(LogLevel::kError, "cannot start a worker",
              {{"local_worker", number_}, {"error", strerror(errno)}});
    }
    return true;
  }

  // Waits for the worker's end. The process id is given back under the lock, so that nobody sends a
  // signal to a stranger who got the same number.
  void Reap() {
    const pid_t pid = this->pid();
    if (pid <= 0) return;
    siginfo_t info = {};
    while (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    absl::MutexLock lock(&mu_);
    waitpid(pid, nullptr, 0);
    pid_ = 0;
    LogLine(stopping_ ? LogLevel::kInfo : LogLevel::kWarning, "worker ended",
            {{"local_worker", number_}, {"pid", pid}, {"by", Describe(info)}});
  }

  const int number_;
  const Options& options_;
  mutable absl::Mutex mu_;
  pid_t pid_ ABSL_GUARDED_BY(mu_) = 0;  // 0: none runs
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

Supervisor::Supervisor(Options options) : options_(std::move(options)) {
  for (int i = 0; i < options_.workers; ++i) {
    children_.push_back(std::make_unique<Child>(i, options_));
  }
}

Supervisor::~Supervisor() {
  for (const auto& child : children_) child->Stop();
  for (const auto& child : children_) child->Join();
}

std::vector<pid_t> Supervisor::pids() const {
  std::vector<pid_t> pids;
  for (const auto& child : children_) {
    if (const pid_t pid = child->pid(); pid > 0) pids.push_back(pid);
  }
  return pids;
}

}  // namespace lockstep
