#ifndef LOCKSTEP_TESTS_CORE_TRAINING_PLAN_REQUEST_H_
#define LOCKSTEP_TESTS_CORE_TRAINING_PLAN_REQUEST_H_

#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <string>

#include "core/training/job_plan.h"
#include "tests/core/training/small_job.h"

namespace lockstep {

inline constexpr int64_t kMemory = int64_t{1} << 30;

// A job that is planned, and its data sets.
struct Request {
  v1::JobSpec spec = MlpJob();
  v1::Dataset train = MakeVectors(100, 20, 1).Describe("small");
  v1::Dataset validation = MakeVectors(30, 20, 2).Describe("held-out");
  int64_t memory = kMemory;

  absl::StatusOr<JobPlan> Plan() const { return PlanJob(spec, train, &validation, memory); }
};

struct Refusal {
  std::function<void(Request&)> change;
  std::string message;  // a part of it
};

// Each change of a good request makes it one that is refused so.
inline void ExpectRefused(std::initializer_list<Refusal> refusals,
                          absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  for (const Refusal& refusal : refusals) {
    Request request;
    refusal.change(request);
    const auto plan = request.Plan();
    ASSERT_FALSE(plan.ok()) << "accepted, instead of: " << refusal.message;
    EXPECT_EQ(plan.status().code(), code) << plan.status();
    EXPECT_NE(plan.status().message().find(refusal.message), std::string::npos)
        << "expected: " << refusal.message << "\n     got: " << plan.status().message();
  }
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_TRAINING_PLAN_REQUEST_H_
