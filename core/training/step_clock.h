#ifndef LOCKSTEP_CORE_TRAINING_STEP_CLOCK_H_
#define LOCKSTEP_CORE_TRAINING_STEP_CLOCK_H_

#include <algorithm>
#include <chrono>

#include "core/parallel/thread_pool.h"

namespace lockstep {

// Where the time of one or more steps went; what is left of `wall` is waiting: threads without
// work.
struct StepTime {
  using Duration = ThreadPool::Clock::duration;

  Duration wall{};
  Duration compute{};  // all threads' work, divided by their number
  Duration reduce{};   // combining what shards computed

  StepTime& operator+=(const StepTime& other) {
    wall += other.wall;
    compute += other.compute;
    reduce += other.reduce;
    return *this;
  }
};

// Measures steps. The thread that calls it works or reduces unless it waits for the pool; the
// others work while they are inside a loop. Not thread-safe; only the pool's caller may use it.
class StepClock {
 public:
  // The pool must outlive it.
  explicit StepClock(const ThreadPool& pool) : pool_(pool) {}

  void Begin() {
    reduce_ = {};
    before_ = pool_.times();
    begin_ = Clock::now();
  }
  void BeginReduction() { reduction_begin_ = Clock::now(); }
  void EndReduction() { reduce_ += Clock::now() - reduction_begin_; }
  StepTime End() const {
    const Clock::duration wall = Clock::now() - begin_;
    const ThreadPool::Times after = pool_.times();
    const Clock::duration own = wall - reduce_ - (after.waiting - before_.waiting);
    const Clock::duration work = own + (after.helping - before_.helping);
    return {wall, std::min(work / pool_.threads(), wall - reduce_), reduce_};
  }

 private:
  using Clock = ThreadPool::Clock;

  const ThreadPool& pool_;
  ThreadPool::Times before_;
  Clock::time_point begin_;
  Clock::time_point reduction_begin_;
  Clock::duration reduce_{};
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_STEP_CLOCK_H_
