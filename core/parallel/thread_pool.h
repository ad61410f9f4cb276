#ifndef LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_
#define LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace lockstep {

// Threads that share one loop at a time. Which thread takes which piece is free: results must not
// depend on it, and by the numerics contract they do not.
//
// A thread joins a loop only if it gets to run before the pieces are gone, and the caller waits for
// those that have joined. So on a machine whose cores are busy with something else a pool is no
// slower than its caller alone.
class ThreadPool {
 public:
  // `threads` counts the caller: a pool of 1 starts none. At most kMaxThreads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  static constexpr int kMaxThreads = 1024;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  using Clock = std::chrono::steady_clock;
  // What the loops since the constructor took. Two readings of the clock a loop and thread pay for
  // it.
  struct Times {
    Clock::duration helping{};  // threads but the caller inside loops, added up
    Clock::duration waiting{};  // the caller, without pieces, for those who still had some
  };
  // Only the caller may ask, between loops.
  Times times() const;

  // Calls body(piece, thread) once for every piece in [0, pieces), on the caller (thread 0) and the
  // pool's threads, and returns when all are done. `thread` is below threads() and no two calls run
  // with the same one at a time, so it can index scratch memory. Not re-entrant; one caller at a
  // time. No allocation, no lock.
  void ParallelFor(int64_t pieces, absl::FunctionRef<void(int64_t piece, int thread)> body);

 private:
  using Body = absl::FunctionRef<void(int64_t, int)>;

  // The gate, in one word: how many threads are inside, whether more may enter, and the number of
  // the loop (which may wrap: a thread that sleeps that long has missed nothing).
  static constexpr uint32_t kInside = kMaxThreads - 1;
  static constexpr uint32_t kOpen = kMaxThreads;
  static constexpr uint32_t kNextLoop = 2 * kOpen;

  // Nobody else writes to its cache line.
  struct alignas(64) Timer {
    Clock::duration time{};
  };

  void WorkerLoop(int thread);
  void RunPieces(int thread);
  void AwaitOthers();

  // Written by the caller while nobody is inside and the gate is closed.
  const Body* body_ = nullptr;
  int64_t pieces_ = 0;
  std::atomic<int64_t> next_piece_{0};
  std::atomic<uint32_t> gate_{0};
  std::atomic<bool> stopping_{false};
  Timer waiting_;
  std::vector<Timer> helping_;  // by thread after the caller
  std::vector<std::thread> workers_;
};

// Number of threads this process may use: the CPUs it is allowed on.
int AvailableThreads();

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_PARALLEL_THREAD_POOL_H_
