#include "server/jobs/supervisor.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <functional>
#include <thread>

namespace lockstep {
namespace {

// Bounded; polls, since a process says nothing when it starts or ends.
bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

Supervisor::Options Sleepers(int workers) {
  Supervisor::Options options;
  options.workers = workers;
  options.executable = "/bin/sleep";
  options.arguments = {"1000"};
  return options;
}

TEST(SupervisorTest, AKilledWorkerIsStartedAgain) {
  Supervisor supervisor(Sleepers(1));
  ASSERT_TRUE(Eventually([&] { return supervisor.pids().size() == 1; }));
  const pid_t first = supervisor.pids()[0];
  ASSERT_EQ(kill(first, SIGKILL), 0);
  EXPECT_TRUE(
      Eventually([&] { return supervisor.pids().size() == 1 && supervisor.pids()[0] != first; }));
}

TEST(SupervisorTest, NoneIsLeftBehind) {
  std::vector<pid_t> pids;
  {
    Supervisor supervisor(Sleepers(3));
    ASSERT_TRUE(Eventually([&] { return supervisor.pids().size() == 3; }));
    pids = supervisor.pids();
  }
  for (const pid_t pid : pids) EXPECT_NE(kill(pid, 0), 0) << pid << " runs, or was not reaped";
}

TEST(SupervisorTest, AProgramThatCannotRunDoesNotStopTheServer) {
  Supervisor::Options options = Sleepers(1);
  options.executable = "/nonexistent";
  Supervisor supervisor(options);
  EXPECT_TRUE(supervisor.pids().empty());
}

}  // namespace
}  // namespace lockstep
