#include "server/web/asio_executor.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <stdexcept>
#include <thread>

#include "absl/status/statusor.h"

namespace lockstep {
namespace {

// What `work` comes to when a coroutine waits for it, in the coroutine's own thread.
template <typename Work>
absl::StatusOr<int> Await(const Work& work) {
  boost::asio::io_context io;
  Executor executor(1);
  absl::StatusOr<int> result = absl::UnknownError("never resumed");
  const auto coroutine = [&]() -> boost::asio::awaitable<void> {
    result = co_await RunOn(executor, work);
    EXPECT_TRUE(io.get_executor().running_in_this_thread());
  };
  boost::asio::co_spawn(io, coroutine, boost::asio::detached);
  io.run();
  return result;
}

TEST(RunOn, ReturnsWhatWasDoneInAnotherThread) {
  const std::thread::id here = std::this_thread::get_id();
  const auto work = [here]() -> absl::StatusOr<int> {
    EXPECT_NE(std::this_thread::get_id(), here);
    return 7;
  };
  EXPECT_EQ(*Await(work), 7);
}

// A library that runs out of something must not take the server down.
TEST(RunOn, TurnsAnExceptionIntoAStatus) {
  const auto work = []() -> absl::StatusOr<int> { throw std::runtime_error("no more of it"); };
  const absl::StatusOr<int> result = Await(work);
  EXPECT_EQ(result.status(), absl::InternalError("unexpected: no more of it"));
}

}  // namespace
}  // namespace lockstep
