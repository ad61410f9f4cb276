#ifndef LOCKSTEP_SERVER_APP_TICKER_H_
#define LOCKSTEP_SERVER_APP_TICKER_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lockstep {

// Calls a function again and again, from a thread of its own, until it is destroyed.
class Ticker {
 public:
  Ticker(absl::Duration pause, std::function<void()> tick);
  ~Ticker();
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_TICKER_H_
