// The pool that every step runs on. Shared values are plain on purpose: ThreadSanitizer then checks
// that a loop's effects are visible after it.

#include "core/parallel/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <xmmintrin.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

constexpr std::chrono::milliseconds kHelp(2);

TEST(ThreadPoolTest, RunsEveryPieceOnce) {
  for (int threads : {1, 2, 3, 4, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t pieces : {0, 1, 2, 3, 7, 8, 9, 64, 1000}) {
      std::vector<int> runs(pieces);
      pool.ParallelFor(pieces, [&](int64_t piece, int) { ++runs[piece]; });
      EXPECT_EQ(runs, std::vector<int>(pieces, 1)) << threads << " threads";
    }
  }
}

TEST(ThreadPoolTest, NoTwoPiecesShareAThreadIndexAtATime) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  std::vector<int64_t> scratch(kThreads);  // a race here is a broken promise
  std::atomic<int> in_use[kThreads] = {};
  std::atomic<int> shared = 0;
  for (int loop = 0; loop < 200; ++loop) {
    pool.ParallelFor(50, [&](int64_t piece, int thread) {
      if (thread < 0 || thread >= kThreads || in_use[thread].exchange(1) != 0) ++shared;
      scratch[thread] += piece;
      in_use[thread].store(0);
    });
  }
  EXPECT_EQ(shared, 0);
  EXPECT_EQ(std::accumulate(scratch.begin(), scratch.end(), int64_t{0}), 200 * 49 * 50 / 2);
}

// Each loop reads what other threads wrote in the one before.
TEST(ThreadPoolTest, LoopsFollowEachOther) {
  ThreadPool pool(3);
  constexpr int64_t kPieces = 5;
  std::vector<int64_t> now(kPieces);
  std::vector<int64_t> next(kPieces);
  constexpr int64_t kLoops = 5000;
  for (int64_t loop = 0; loop < kLoops; ++loop) {
    pool.ParallelFor(kPieces,
                     [&](int64_t piece, int) { next[piece] = now[(piece + 1) % kPieces] + 1; });
    now.swap(next);
  }
  EXPECT_EQ(now, std::vector<int64_t>(kPieces, kLoops));
}

TEST(ThreadPoolTest, TimesCountTheHelpersAndTheCallersWait) {
  ThreadPool alone(1);
  alone.ParallelFor(4, [](int64_t, int) {});
  EXPECT_EQ(alone.times().helping.count(), 0);
  EXPECT_EQ(alone.times().waiting.count(), 0);

  ThreadPool pool(2);
  const auto begin = ThreadPool::Clock::now();
  // Again if the caller was kept from its work until the other thread was done.
  for (int loop = 0; loop < 1000 && pool.times().waiting.count() == 0; ++loop) {
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, [&](int64_t, int thread) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
      const auto met = ThreadPool::Clock::now();
      while (thread == 1 && ThreadPool::Clock::now() < met + kHelp) {
      }
    });
  }
  const auto took = ThreadPool::Clock::now() - begin;
  EXPECT_GE(pool.times().helping, kHelp);
  EXPECT_LE(pool.times().helping, took);
  EXPECT_GT(pool.times().waiting.count(), 0);
  EXPECT_LE(pool.times().waiting, took);
}

// Threads that have gone to sleep between loops wake up for the next one.
TEST(ThreadPoolTest, WakesThreadsThatSleep) {
  ThreadPool pool(2);
  for (int loop = 0; loop < 3; ++loop) {
    // Both threads must take part, or this would not return.
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, [&](int64_t, int) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
    // Long enough for the other thread to park; nothing depends on whether it did.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

TEST(ThreadPoolTest, MayBeDestroyedRightAfterALoopOrUnused) {
  for (int i = 0; i < 100; ++i) {
    int64_t sum[16] = {};
    {
      ThreadPool unused(3);
      ThreadPool pool(4);
      pool.ParallelFor(16, [&](int64_t piece, int) { sum[piece] = piece; });
    }
    EXPECT_EQ(std::accumulate(std::begin(sum), std::end(sum), int64_t{0}), 120);
  }
}

// Contract rule 12: in every thread that computes, whatever the one that made it had set.
TEST(ThreadPoolTest, ItsThreadsComputeWithGradualUnderflow) {
  constexpr unsigned kFlush = 0x8040;
  constexpr unsigned kControlBits = 0xffc0;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlush);
  {
    ThreadPool pool(2);
    std::atomic<int> arrived = 0;
    unsigned seen[2] = {};
    pool.ParallelFor(2, [&](int64_t, int thread) {
      seen[thread] = _mm_getcsr() & kControlBits;
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(seen[1], 0x1f80u);
  }
  _mm_setcsr(before);
}

TEST(AvailableThreadsTest, CountsTheCpusThatTheProcessMayUse) {
  EXPECT_GE(AvailableThreads(), 1);
  std::thread([] {
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &one);
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(AvailableThreads(), 1);
  }).join();
}

}  // namespace
}  // namespace lockstep
