#ifndef LOCKSTEP_SERVER_WORKER_WORKER_H_
#define LOCKSTEP_SERVER_WORKER_WORKER_H_

#include <string>

namespace lockstep {

struct WorkerOptions {
  // "unix:PATH" or "HOST:PORT".
  std::string server;
  std::string token;
  // Copies of data sets; several workers may share it.
  std::string cache_directory;
  // 0: all CPUs this process may use.
  int threads = 0;
  // Ask the kernel to kill this process when the one that started it dies (--die-with-parent, for
  // workers that a server starts itself).
  bool die_with_parent = false;
};

// Exit codes of a worker.
inline constexpr int kWorkerCannotConnect = 3;  // nobody listens there
inline constexpr int kWorkerBadCache = 4;       // cache or data cannot be used
inline constexpr int kWorkerRefused = 5;        // wrong token, or another numerics contract
inline constexpr int kWorkerServerGone = 6;     // the stream broke
inline constexpr int kWorkerWrongBits = 7;      // this machine does not compute the contract's bits

// A worker: connects, trains what it is given, and returns an exit code when the server is gone.
// Who wants it back starts it again; a worker holds nothing that is worth saving.
int RunWorker(const WorkerOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WORKER_WORKER_H_
