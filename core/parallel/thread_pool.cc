#include "core/parallel/thread_pool.h"

#include <sched.h>

#include "core/numerics/float_environment.h"

namespace lockstep {
namespace {

// Polls before a thread goes to sleep: about 20 us, longer than the gap between two loops of a step
// and much shorter than a scheduler tick.
constexpr int kSpins = 2000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`: spins first, then parks in the kernel.
template <typename T>
T WaitWhileEqual(std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  loop_.store(-1, std::memory_order_release);
  loop_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t pieces, Body body) {
  if (workers_.empty() || pieces <= 1) {
    for (int64_t piece = 0; piece < pieces; ++piece) body(piece, 0);
    return;
  }
  body_ = &body;
  pieces_ = pieces;
  next_piece_.store(0, std::memory_order_relaxed);
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  loop_.fetch_add(1, std::memory_order_release);
  loop_.notify_all();
  RunPieces(0);
  for (int left = running_.load(std::memory_order_acquire); left != 0;) {
    left = WaitWhileEqual(running_, left);
  }
}

void ThreadPool::RunPieces(int thread) {
  const int64_t pieces = pieces_;
  for (int64_t piece; (piece = next_piece_.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
    (*body_)(piece, thread);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  ResetFloatEnvironment();
  int64_t seen = 0;
  for (;;) {
    seen = WaitWhileEqual(loop_, seen);
    if (seen < 0) return;
    RunPieces(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

int AvailableThreads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  return CPU_COUNT(&allowed);
}

}  // namespace lockstep
