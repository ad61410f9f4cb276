#ifndef LOCKSTEP_SERVER_WORKER_WORKER_H_
#define LOCKSTEP_SERVER_WORKER_WORKER_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

struct WorkerOptions {
  // "unix:PATH" or "HOST:PORT".
  std::string server;
  // Of the server; read before each stream, because a server that was started again has another.
  std::function<absl::StatusOr<std::string>()> token;
  // Copies of data sets; several workers may share it.
  std::string cache_directory;
  // 0: all CPUs this process may use.
  int threads = 0;
  // Ask the kernel to kill this process when the one that started it dies (--die-with-parent, for
  // workers that a server starts itself).
  bool die_with_parent = false;
  // How long a server that is gone is waited for, training on meanwhile; with die_with_parent not
  // at all.
  double grace_seconds = 120;
};

// Exit codes of a worker.
inline constexpr int kWorkerCannotConnect = 3;  // nobody listens there
inline constexpr int kWorkerBadCache = 4;       // cache or data cannot be used
inline constexpr int kWorkerRefused = 5;        // wrong token, or another numerics contract
inline constexpr int kWorkerServerGone = 6;     // the stream broke
inline constexpr int kWorkerWrongBits = 7;      // this machine does not compute the contract's bits

// A worker: connects, trains what it is given, and returns an exit code when the server is gone for
// good. Who wants it back starts it again.
int RunWorker(const WorkerOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_WORKER_H_
