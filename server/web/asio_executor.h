#ifndef LOCKSTEP_SERVER_WEB_ASIO_EXECUTOR_H_
#define LOCKSTEP_SERVER_WEB_ASIO_EXECUTOR_H_

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "server/api/executor.h"
#include "server/api/run_guarded.h"

namespace lockstep {

// Runs `work`, which returns an absl::StatusOr and may wait, on the executor, and goes on in the
// coroutine's own thread with what it returned. RESOURCE_EXHAUSTED when the executor is full.
//
// `work` is a variable of the coroutine's: a lambda that is written where it is awaited loses its
// captures twice when g++ 12 compiles it.
template <typename Work>
boost::asio::awaitable<std::invoke_result_t<const Work&>> RunOn(Executor& executor,
                                                                const Work& work) {
  using Result = std::invoke_result_t<const Work&>;
  return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(Result)>(
      [&executor](auto handler, const Work& work) {
        auto resume = std::make_shared<decltype(handler)>(std::move(handler));
        const auto finish = [resume](Result result) {
          const auto own = boost::asio::get_associated_executor(*resume);
          boost::asio::post(own, [resume, result = std::move(result)]() mutable {
            std::move (*resume)(std::move(result));
          });
        };
        const bool posted = executor.Post([finish, work]() { finish(RunGuarded(work)); });
        if (!posted) finish(absl::ResourceExhaustedError("the server is busy; try again"));
      },
      boost::asio::use_awaitable, work);
}

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_ASIO_EXECUTOR_H_
