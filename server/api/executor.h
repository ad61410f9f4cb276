#ifndef LOCKSTEP_SERVER_API_EXECUTOR_H_
#define LOCKSTEP_SERVER_API_EXECUTOR_H_

#include <memory>

#include "absl/functional/any_invocable.h"

namespace lockstep {

// A few threads for what gRPC's reactions must not do themselves: anything that may wait for the
// disk or a lock held across a wait. Thread-safe.
class Executor {
 public:
  explicit Executor(int threads);
  // Runs what has been posted, then joins the threads.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False, and `task` is dropped, when too many are waiting: the caller refuses its client with
  // RESOURCE_EXHAUSTED instead of letting a queue grow. `task` must not throw.
  [[nodiscard]] bool Post(absl::AnyInvocable<void()> task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_EXECUTOR_H_
