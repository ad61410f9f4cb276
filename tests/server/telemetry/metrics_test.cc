#include "server/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "server/telemetry/process_figures.h"

namespace lockstep {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> Lines(const Metrics& metrics) {
  return absl::StrSplit(metrics.Text(), '\n');
}

TEST(MetricsTest, RpcsAreCountedByMethodAndCode) {
  Metrics metrics;
  metrics.RpcReceived("A.One", 100);
  metrics.RpcSent("A.One", 7);
  metrics.RpcEnded("A.One", absl::StatusCode::kOk, absl::Milliseconds(20));
  metrics.RpcReceived("A.One", 50);
  metrics.RpcEnded("A.One", absl::StatusCode::kNotFound, absl::Milliseconds(2));
  metrics.RpcEnded("A.Two", absl::StatusCode::kOk, absl::Hours(5));
  const std::vector<std::string> lines = Lines(metrics);
  EXPECT_THAT(lines, Contains("lockstep_rpcs_total{code=\"OK\",method=\"A.One\"} 1"));
  EXPECT_THAT(lines, Contains("lockstep_rpcs_total{code=\"NOT_FOUND\",method=\"A.One\"} 1"));
  EXPECT_THAT(lines, Contains("lockstep_rpcs_total{code=\"OK\",method=\"A.Two\"} 1"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_received_bytes_total{method=\"A.One\"} 150"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_sent_bytes_total{method=\"A.One\"} 7"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_seconds_bucket{method=\"A.One\",le=\"0.01\"} 1"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_seconds_bucket{method=\"A.One\",le=\"0.025\"} 2"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_seconds_bucket{method=\"A.Two\",le=\"3600\"} 0"));
  EXPECT_THAT(lines, Contains("lockstep_rpc_seconds_count{method=\"A.Two\"} 1"));
}

TEST(MetricsTest, EveryStateOfAJobHasAFigureFromTheStart) {
  Metrics metrics;
  for (const char* state : {"queued", "running", "succeeded", "failed", "cancelled", "paused"}) {
    EXPECT_THAT(Lines(metrics), Contains(absl::StrCat("lockstep_jobs{state=\"", state, "\"} 0")));
  }
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("unspecified")));
}

TEST(MetricsTest, AModelBeyondTheFirstHundredIsOther) {
  Metrics metrics;
  for (int model = 0; model < 102; ++model) {
    metrics.InferenceEnded(absl::StrCat("m", model), absl::StatusCode::kOk);
  }
  metrics.InferenceEnded("m0", absl::StatusCode::kOk);
  metrics.InferenceEnded("", absl::StatusCode::kNotFound);
  const std::vector<std::string> lines = Lines(metrics);
  const auto requests = [](const char* model, const char* code, int count) {
    return absl::StrCat("lockstep_inference_requests_total{code=\"", code, "\",model=\"", model,
                        "\"} ", count);
  };
  EXPECT_THAT(lines, Contains(requests("m0", "OK", 2)));
  EXPECT_THAT(lines, Contains(requests("m99", "OK", 1)));
  EXPECT_THAT(lines, Contains(requests("other", "OK", 2)));
  EXPECT_THAT(lines, Contains(requests("other", "NOT_FOUND", 1)));
  EXPECT_THAT(lines, Contains(StartsWith("lockstep_inference_requests_total{")).Times(102));
}

TEST(MetricsTest, ANameOfAModelCannotForgeALine) {
  Metrics metrics;
  metrics.InferenceEnded("a\"} 1\nlockstep_jobs{state=\"\\", absl::StatusCode::kOk);
  EXPECT_THAT(Lines(metrics),
              Contains("lockstep_inference_requests_total{code=\"OK\",model=\"a\\\"} "
                       "1\\nlockstep_jobs{state=\\\"\\\\\"} 1"));
}

TEST(MetricsTest, WorkersAreAskedForAtEveryScrape) {
  Metrics metrics;
  EXPECT_THAT(Lines(metrics), Contains("lockstep_workers{state=\"idle\"} 0"));
  Metrics::Workers now{.idle = 1, .busy = 2, .held = 3, .longest_silence = absl::Seconds(1.5)};
  metrics.CollectWorkers([&now] { return now; });
  EXPECT_THAT(Lines(metrics), Contains("lockstep_workers{state=\"busy\"} 2"));
  EXPECT_THAT(Lines(metrics), Contains("lockstep_worker_last_message_age_seconds 1.5"));
  now.held = 4;
  EXPECT_THAT(Lines(metrics), Contains("lockstep_workers{state=\"held\"} 4"));
}

TEST(MetricsTest, NothingIsLostWhenManyThreadsCount) {
  constexpr int kThreads = 8, kTimes = 2000;
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&metrics, thread] {
      for (int i = 0; i < kTimes; ++i) {
        metrics.RpcEnded(i % 2 == 0 ? "A.One" : "A.Two", absl::StatusCode::kOk,
                         absl::Milliseconds(1));
        metrics.Trained(1, 32);
        metrics.InferenceEnded(absl::StrCat("m", i % 200), absl::StatusCode::kOk);
        metrics.JobMoved(v1::JOB_STATE_UNSPECIFIED, v1::QUEUED);
        metrics.JobMoved(v1::QUEUED, v1::RUNNING);
        if (i % 500 == thread) EXPECT_THAT(metrics.Text(), HasSubstr("lockstep_steps_total"));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = Lines(metrics);
  EXPECT_THAT(lines, Contains("lockstep_rpcs_total{code=\"OK\",method=\"A.One\"} 8000"));
  EXPECT_THAT(lines, Contains("lockstep_steps_total 16000"));
  EXPECT_THAT(lines, Contains("lockstep_samples_total 512000"));
  EXPECT_THAT(lines, Contains("lockstep_jobs{state=\"queued\"} 0"));
  EXPECT_THAT(lines, Contains("lockstep_jobs{state=\"running\"} 16000"));
  EXPECT_THAT(lines, Contains(StartsWith("lockstep_inference_requests_total{")).Times(101));
}

TEST(ProcessFiguresTest, AreThoseOfThisProcess) {
  const ProcessFigures before = ReadProcessFigures();
  EXPECT_GT(before.resident_memory_bytes, 1 << 20);
  EXPECT_GT(before.max_fds, before.open_fds);
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  EXPECT_LE(before.start_time_seconds, now + 1);
  EXPECT_GT(before.start_time_seconds, now - 24 * 3600);

  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(ReadProcessFigures().open_fds, before.open_fds + 2);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  // The clock of CPU time goes in hundredths of a second, so this ends.
  double after = before.cpu_seconds;
  while (after == before.cpu_seconds) after = ReadProcessFigures().cpu_seconds;
  EXPECT_GT(after, before.cpu_seconds);
}

}  // namespace
}  // namespace lockstep
