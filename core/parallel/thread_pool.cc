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
uint32_t WaitWhileEqual(std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : helping_(threads - 1) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  gate_.fetch_add(kNextLoop, std::memory_order_release);
  gate_.notify_all();
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
  gate_.fetch_add(kNextLoop | kOpen, std::memory_order_release);
  gate_.notify_all();
  RunPieces(0);
  AwaitOthers();
}

// Closes the gate.
void ThreadPool::AwaitOthers() {
  uint32_t gate = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  if ((gate & kInside) == 0) return;
  const Clock::time_point begin = Clock::now();
  while ((gate & kInside) != 0) gate = WaitWhileEqual(gate_, gate);
  waiting_.time += Clock::now() - begin;
}

ThreadPool::Times ThreadPool::times() const {
  Times times = {.waiting = waiting_.time};
  for (const Timer& timer : helping_) times.helping += timer.time;
  return times;
}

void ThreadPool::RunPieces(int thread) {
  const int64_t pieces = pieces_;
  for (int64_t piece; (piece = next_piece_.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
    (*body_)(piece, thread);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  ResetFloatEnvironment();
  uint32_t done = 0;  // the loop this thread was last inside
  uint32_t gate = gate_.load(std::memory_order_acquire);
  while (!stopping_.load(std::memory_order_relaxed)) {
    const uint32_t loop = gate & ~(kOpen | kInside);
    if ((gate & kOpen) == 0 || loop == done) {
      gate = WaitWhileEqual(gate_, gate);
      continue;
    }
    if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      continue;
    }
    const Clock::time_point begin = Clock::now();
    RunPieces(thread);
    helping_[thread - 1].time += Clock::now() - begin;
    done = loop;
    gate = gate_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    // The last one out of a closed gate: the caller may be parked.
    if ((gate & (kOpen | kInside)) == 0) gate_.notify_all();
  }
}

int AvailableThreads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  return CPU_COUNT(&allowed);
}

}  // namespace lockstep
