#include "server/api/executor.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

namespace lockstep {
namespace {

constexpr int kMaxWaiting = 4096;

}  // namespace

struct Executor::State {
  explicit State(int threads) : pool(threads) {}

  std::atomic<int> waiting{0};
  boost::asio::thread_pool pool;
};

Executor::Executor(int threads) : state_(std::make_unique<State>(threads)) {}

Executor::~Executor() { state_->pool.join(); }

bool Executor::Post(absl::AnyInvocable<void()> task) {
  if (state_->waiting.fetch_add(1) >= kMaxWaiting) {
    state_->waiting.fetch_sub(1);
    return false;
  }
  boost::asio::post(state_->pool, [state = state_.get(), task = std::move(task)]() mutable {
    state->waiting.fetch_sub(1);
    task();
  });
  return true;
}

}  // namespace lockstep
