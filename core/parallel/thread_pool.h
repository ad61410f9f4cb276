#ifndef LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_
#define LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace lockstep {

// Threads that share one loop at a time. Which thread takes which piece is free: results must not
// depend on it, and by the numerics contract they do not.
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller: a pool of 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(piece, thread) once for every piece in [0, pieces), on the caller (thread 0) and the
  // pool's threads, and returns when all are done. `thread` is below threads() and no two calls run
  // with the same one at a time, so it can index scratch memory. Not re-entrant; one caller at a
  // time. No allocation, no lock.
  void ParallelFor(int64_t pieces, absl::FunctionRef<void(int64_t piece, int thread)> body);

 private:
  void WorkerLoop(int thread);
  void RunPieces(int thread);

  using Body = absl::FunctionRef<void(int64_t, int)>;
  const Body* body_ = nullptr;
  int64_t pieces_ = 0;
  std::atomic<int64_t> next_piece_{0};
  // Number of the current loop; changes tell the threads that there is work. -1: stop.
  std::atomic<int64_t> loop_{0};
  std::atomic<int> running_{0};
  std::vector<std::thread> workers_;
};

// Number of threads this process may use: the CPUs it is allowed on.
int AvailableThreads();

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_
