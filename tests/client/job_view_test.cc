// What people read about jobs says what matters and leaves out what nobody set.

#include "client/cli/job_view.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(10'000);

v1::Job Job(const std::string& text) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &job)) << text;
  return job;
}

const char kRunning[] =
    "id: 'a' state: RUNNING attempt: 1 create_time { seconds: 9000 } start_time { seconds: 9910 } "
    "worker { name: 'host:17' threads: 8 supervised: true } "
    "progress { step: 5 total_steps: 10 metrics { name: 'loss' value: 0.5 } }";

TEST(JobTableTest, HasNoColumnThatNobodyNeeds) {
  const v1::Job queued =
      Job("id: 'q' state: QUEUED create_time { seconds: 9990 } progress { total_steps: 10 }");
  EXPECT_EQ(JobTable({queued}, kNow, 100),
            "JOB  STATE   STEPS  LOSS  MODEL  SUBMITTED\n"
            "q    queued   0/10     -      -   10 s ago\n");
}

TEST(JobTableTest, ShowsPrioritiesAndWorkersWhereThereAreSome) {
  const v1::Job paused =
      Job("id: 'p' state: PAUSED priority: -2 create_time { seconds: 9990 } "
          "progress { step: 1 total_steps: 10 }");
  const std::vector<v1::Job> jobs = {paused, Job(kRunning)};
  const std::string wide =
      "JOB  STATE    PRIORITY  STEPS    LOSS  MODEL   SUBMITTED  WORKER\n"
      "p    paused         -2   1/10       -      -    10 s ago  -\n"
      "a    running         0   5/10  0.5000      -  16 min ago  host:17 (8 threads)\n";
  EXPECT_EQ(JobTable(jobs, kNow, 77), wide);
  EXPECT_EQ(JobTable(jobs, kNow, 76).find("WORKER"), std::string::npos);
  EXPECT_THAT(JobTable(jobs, kNow, 76), HasSubstr("PRIORITY"));
}

TEST(WorkersTextTest, SaysWhatEachDoesAndHowManyJobsWait) {
  v1::ListWorkersResponse response;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "workers { name: 'a:1' threads: 8 cores: 16 job_id: 'cnn' attempt: 2 job_threads: 4 "
      "build: 'avx512 g++ 12' join_time { seconds: 9990 } } "
      "workers { name: 'a:2' threads: 8 cores: 16 join_time { seconds: 9400 } } "
      "workers { name: 'b:1' threads: 2 cores: 2 job_id: 'mlp' attempt: 1 job_threads: 2 held: "
      "true "
      "join_time { seconds: 9400 } } queued_jobs: 3",
      &response));
  const std::string narrow =
      "WORKER  DOES      JOB  ATTEMPT  THREADS  CORES      JOINED\n"
      "a:1     training  cnn        2      4/8     16    10 s ago\n"
      "a:2     idle      -          -      0/8     16  10 min ago\n"
      "b:1     held      mlp        1      2/2      2  10 min ago\n"
      "3 jobs wait for a worker\n";
  const auto line_end = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  const std::string wide = WorkersText(response, kNow, 200);
  EXPECT_EQ(line_end(wide), "WORKER  DOES      JOB  ATTEMPT  THREADS  CORES      JOINED  BUILD");
  EXPECT_THAT(wide, HasSubstr("avx512 g++ 12\n"));
  EXPECT_EQ(WorkersText(response, kNow, 72), narrow);
  EXPECT_THAT(WorkersText(response, kNow, 73), HasSubstr("BUILD"));
  v1::ListWorkersResponse none;
  none.set_queued_jobs(1);
  EXPECT_EQ(WorkersText(none, kNow, 80),
            "no worker is connected; `lockstepd serve` starts one, `lockstepd work` adds more\n"
            "1 job waits for a worker\n");
}

TEST(JobTextTest, SaysWhatARunningJobDoesAndWhatItMay) {
  v1::Job job =
      Job(std::string(kRunning) +
          "priority: 7 spec { labels { key: 'team' value: 'vision' } "
          "labels { key: 'run' value: '2' } "
          "resources { max_seconds: 3600 max_memory_bytes: 512000000 } } "
          "checkpoints { step: 4 blob { size_bytes: 2000 } create_time { seconds: 9940 } }"
          "checkpoints { step: 2 }");
  const std::string text = JobText(job, kNow);
  EXPECT_THAT(text, HasSubstr("state        running\n"));
  EXPECT_THAT(text, HasSubstr("worker       host:17, 8 threads, started by the server\n"));
  EXPECT_THAT(text, HasSubstr("priority     7\n"));
  EXPECT_THAT(text, HasSubstr("labels       run=2 team=vision\n"));
  EXPECT_THAT(text, HasSubstr("run time     01:30\n"));
  EXPECT_THAT(text, HasSubstr("checkpoint   step 4, 60 s ago, 2.0 kB; 2 kept\n"));
  EXPECT_THAT(text, HasSubstr("limits       1:00:00 of running, 512.0 MB of memory\n"));
  // A later attempt's start is not known, so only what the server has counted is said.
  job.set_attempt(2);
  job.set_run_seconds(30);
  EXPECT_THAT(JobText(job, kNow), HasSubstr("run time     00:30 before this attempt\n"));
}

TEST(JobTextTest, SaysHowAPausedJobGoesOn) {
  const std::string text = JobText(Job("id: 'p' state: PAUSED run_seconds: 61"), kNow);
  EXPECT_THAT(text, HasSubstr("state        paused; `lockstep resume p` goes on\n"));
  EXPECT_THAT(text, HasSubstr("run time     01:01\n"));
  for (const char* unset :
       {"worker", "priority", "labels", "checkpoint", "limits", "verification"}) {
    EXPECT_THAT(text, Not(HasSubstr(unset)));
  }
}

TEST(SubmittedTextTest, TellsAnEarlierJobFromANewOne) {
  v1::Job job = Job("id: 'a' state: QUEUED fingerprint: '0123456789abcdef'");
  EXPECT_EQ(SubmittedText(job, true, kNow), "job a  fingerprint 0123456789ab\n");
  job =
      Job("id: 'a' state: SUCCEEDED fingerprint: '0123456789abcdef' create_time { seconds: 2800 } "
          "end_time { seconds: 6400 } published { name: 'cnn' version: 2 }");
  EXPECT_EQ(
      SubmittedText(job, true, kNow),
      "job a  fingerprint 0123456789ab\n"
      "  an earlier job answers, nothing is trained: submitted 2 h ago, succeeded 60 min ago, "
      "model cnn:2\n");
  EXPECT_EQ(SubmittedText(job, false, kNow), "job a  fingerprint 0123456789ab\n");
}

}  // namespace
}  // namespace lockstep
