#include "server/jobs/job_state.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace lockstep {
namespace {

constexpr JobCommand kCommands[] = {JobCommand::kAssign, JobCommand::kRequeue, JobCommand::kPause,
                                    JobCommand::kResume, JobCommand::kSucceed, JobCommand::kFail,
                                    JobCommand::kCancel};
constexpr v1::JobState kStates[] = {v1::QUEUED,    v1::RUNNING, v1::PAUSED,
                                    v1::SUCCEEDED, v1::FAILED,  v1::CANCELLED};

// Promise: the README's picture; and what was under way when its job was paused or preempted may
// still come to its end.
TEST(JobStateTest, MovesAreThoseOfTheDesign) {
  const std::map<v1::JobState, std::set<v1::JobState>> design = {
      {v1::QUEUED, {v1::RUNNING, v1::PAUSED, v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}},
      {v1::RUNNING, {v1::QUEUED, v1::PAUSED, v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}},
      {v1::PAUSED, {v1::QUEUED, v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}},
      {v1::SUCCEEDED, {}},
      {v1::FAILED, {}},
      {v1::CANCELLED, {}},
  };
  for (const v1::JobState from : kStates) {
    std::set<v1::JobState> reached;
    for (const JobCommand command : kCommands) {
      if (const auto to = NextState(from, command); to.ok()) reached.insert(*to);
    }
    EXPECT_EQ(reached, design.at(from)) << v1::JobState_Name(from);
  }
}

// Promise: whatever comes, a job that has ended stays as it is, and the refusal says why.
TEST(JobStateTest, RandomCommandsNeverLeaveAnEndedState) {
  std::mt19937 random(1);
  for (int walk = 0; walk < 200; ++walk) {
    v1::JobState state = v1::QUEUED;
    for (int i = 0; i < 50; ++i) {
      const JobCommand command = kCommands[random() % std::size(kCommands)];
      const absl::StatusOr<v1::JobState> next = NextState(state, command);
      if (HasEnded(state)) {
        ASSERT_EQ(next.status().code(), absl::StatusCode::kFailedPrecondition);
        const std::string message(next.status().message());
        EXPECT_NE(message.find(v1::JobState_Name(state)), std::string::npos) << message;
        EXPECT_NE(message.find(JobCommandName(command)), std::string::npos) << message;
      }
      if (next.ok()) state = *next;
    }
  }
}

}  // namespace
}  // namespace lockstep
