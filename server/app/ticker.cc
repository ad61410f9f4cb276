#include "server/app/ticker.h"

#include <utility>

namespace lockstep {

Ticker::Ticker(absl::Duration pause, std::function<void()> tick)
    : thread_([this, pause, tick = std::move(tick)] {
        while (true) {
          {
            absl::MutexLock lock(&mu_);
            if (mu_.AwaitWithTimeout(absl::Condition(&stopping_), pause)) return;
          }
          tick();
        }
      }) {}

Ticker::~Ticker() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

}  // namespace lockstep
