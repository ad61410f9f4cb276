// What is said about jobs on the command line reaches the server, and the exit code says how it
// went.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "client/cli/commands.h"
#include "lockstep/v1/job.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Jobs job-0 (the newest) to job-249, and "ended", which is over.
class FakeJobs final : public v1::JobService::Service {
 public:
  grpc::Status PauseJob(grpc::ServerContext*, const v1::PauseJobRequest* request,
                        v1::Job* job) override {
    return Answer("pause", request->id(), running_first ? v1::RUNNING : v1::PAUSED, job);
  }
  grpc::Status ResumeJob(grpc::ServerContext*, const v1::ResumeJobRequest* request,
                         v1::Job* job) override {
    return Answer("resume", request->id(), v1::QUEUED, job);
  }
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request,
                         v1::Job* job) override {
    return Answer("cancel", request->id(), v1::CANCELLED, job);
  }
  grpc::Status SetJobPriority(grpc::ServerContext*, const v1::SetJobPriorityRequest* request,
                              v1::Job* job) override {
    job->set_priority(request->priority());
    return Answer("set-priority", request->id(), v1::QUEUED, job);
  }
  grpc::Status DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest* request,
                         v1::DeleteJobResponse*) override {
    v1::Job job;
    return Answer("delete", request->id(), v1::SUCCEEDED, &job);
  }
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    pages.push_back(*request);
    int first = 0;
    if (!absl::SimpleAtoi(request->page_token(), &first)) first = 0;
    const int last = std::min(first + request->page_size(), 250);
    for (int i = first; i < last; ++i) {
      response->add_jobs()->set_id(absl::StrCat("job-", i));
      response->mutable_jobs(i - first)->set_state(v1::QUEUED);
    }
    if (last < 250) response->set_next_page_token(absl::StrCat(last));
    return grpc::Status::OK;
  }

  grpc::Status ListWorkers(grpc::ServerContext*, const v1::ListWorkersRequest*,
                           v1::ListWorkersResponse* response) override {
    response->add_workers()->set_name("host:1");
    response->add_workers()->set_name("host:2");
    return grpc::Status::OK;
  }
  // Every reply of this one says where the dashboard is, if `dashboard` does.
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    if (!dashboard.empty()) context->AddInitialMetadata("x-lockstep-dashboard", dashboard);
    job->set_id(request->id());
    job->set_state(v1::SUCCEEDED);
    return grpc::Status::OK;
  }
  // Two steps and an epoch.
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::Event>* writer) override {
    for (int step = 1; step <= 2; ++step) {
      v1::Event event;
      event.set_sequence(step);
      event.mutable_step()->set_step(step);
      v1::MetricSummary& metric = *event.mutable_step()->add_metrics();
      metric.set_name("loss");
      metric.set_mean(3 - step);
      writer->Write(event);
    }
    v1::Event end;
    end.set_sequence(3);
    end.mutable_state()->set_state(v1::SUCCEEDED);
    writer->Write(end);
    return grpc::Status::OK;
  }

  bool running_first = false;
  std::string dashboard;
  std::vector<std::string> calls;
  std::vector<v1::ListJobsRequest> pages;

 private:
  grpc::Status Answer(const std::string& what, const std::string& id, v1::JobState state,
                      v1::Job* job) {
    if (id == "absent") return {grpc::StatusCode::NOT_FOUND, "no such job"};
    if (id == "ended") return {grpc::StatusCode::FAILED_PRECONDITION, "the job has ended"};
    calls.push_back(what + " " + id);
    job->set_id(id);
    job->set_state(state);
    return grpc::Status::OK;
  }
};

class JobCommandsTest : public testing::Test {
 protected:
  // Runs a command and keeps what it writes.
  template <typename Command>
  ExitCode Run(Command command, bool json = false) {
    Session session({.server = server_.address(), .token_file = {}, .json = json});
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitCode code = command(session);
    output_ = testing::internal::GetCapturedStdout();
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }
  ExitCode List(const ListJobsArguments& arguments, bool json = false) {
    return Run([&](Session& session) { return ListJobs(session, arguments); }, json);
  }
  // Lines of output, without header.
  int64_t Rows() const { return std::count(output_.begin(), output_.end(), '\n') - 1; }

  FakeJobs jobs_;
  FakeServer server_{{&jobs_}};
  std::string output_, errors_;
};

TEST_F(JobCommandsTest, EachChangeAsksForItselfAndSaysTheNewState) {
  EXPECT_EQ(Run([](Session& s) { return PauseJob(s, "a"); }), kOk);
  EXPECT_EQ(output_, "a paused\n");
  EXPECT_EQ(Run([](Session& s) { return ResumeJob(s, "a"); }), kOk);
  EXPECT_EQ(output_, "a queued\n");
  EXPECT_EQ(Run([](Session& s) { return SetJobPriority(s, "a", -7); }), kOk);
  EXPECT_EQ(output_, "a queued, priority -7\n");
  EXPECT_EQ(Run([](Session& s) { return CancelJob(s, "a"); }), kOk);
  EXPECT_EQ(output_, "a cancelled\n");
  EXPECT_THAT(jobs_.calls, ElementsAre("pause a", "resume a", "set-priority a", "cancel a"));
}

TEST_F(JobCommandsTest, AJobThatHasStillToStopIsNotSaidToBePaused) {
  jobs_.running_first = true;
  EXPECT_EQ(Run([](Session& s) { return PauseJob(s, "a"); }), kOk);
  EXPECT_EQ(output_, "a running, paused within a step\n");
}

TEST_F(JobCommandsTest, RefusalsNameTheJobAndWhatToDo) {
  EXPECT_EQ(Run([](Session& s) { return ResumeJob(s, "absent"); }), kRefused);
  EXPECT_EQ(errors_, "lockstep: resume absent: no such job; `lockstep jobs` lists what there is\n");
  EXPECT_EQ(Run([](Session& s) { return PauseJob(s, "ended"); }), kRefused);
  EXPECT_EQ(errors_, "lockstep: pause ended: the job has ended\n");
  EXPECT_EQ(output_, "");
}

TEST_F(JobCommandsTest, AnOlderServerIsNamedAsTheReason) {
  EXPECT_EQ(Run([](Session& s) { return ListDatasets(s); }), kRefused);
  EXPECT_EQ(
      errors_,
      "lockstep: datasets list: the server does not know how to; it is older than this command\n");
}

TEST_F(JobCommandsTest, DeletingGoesOnAfterOneThatCannotBeDeleted) {
  EXPECT_EQ(Run([](Session& s) { return DeleteJobs(s, {"a", "ended", "b"}); }), kRefused);
  EXPECT_EQ(output_, "a deleted\nb deleted\n");
  EXPECT_THAT(errors_, HasSubstr("`lockstep cancel ended` ends it"));
  EXPECT_THAT(jobs_.calls, ElementsAre("delete a", "delete b"));
  EXPECT_EQ(Run([](Session& s) { return DeleteJobs(s, {"c"}); }, /*json=*/true), kOk);
  EXPECT_EQ(output_, "{\"deleted\":\"c\"}\n");
}

TEST_F(JobCommandsTest, ListsNoMoreThanTheLimitAndSaysThatThereIsMore) {
  EXPECT_EQ(List({}), kOk);
  EXPECT_EQ(Rows(), 21);
  EXPECT_THAT(output_, HasSubstr("\n20 of more; --all lists the rest\n"));
  EXPECT_EQ(jobs_.pages.size(), 1);
  EXPECT_EQ(List({.states = {}, .labels = {}, .limit = 130}), kOk);
  EXPECT_EQ(Rows(), 131);
  EXPECT_THAT(output_, HasSubstr("job-129 "));
  EXPECT_THAT(output_, Not(HasSubstr("job-130 ")));
}

TEST_F(JobCommandsTest, AllFollowsThePagesToTheEnd) {
  EXPECT_EQ(List({.states = {}, .labels = {}, .all = true}), kOk);
  EXPECT_EQ(Rows(), 250);
  EXPECT_THAT(output_, Not(HasSubstr("--all")));
  EXPECT_EQ(List({.states = {}, .labels = {}, .all = true}, /*json=*/true), kOk);
  EXPECT_EQ(Rows(), 249) << "an object a line";
}

TEST_F(JobCommandsTest, EveryPageIsAskedForWithTheFilters) {
  EXPECT_EQ(List({.states = {"running", "PAUSED"}, .labels = {"team=vision"}, .all = true}), kOk);
  ASSERT_EQ(jobs_.pages.size(), 3);
  for (const v1::ListJobsRequest& page : jobs_.pages) {
    EXPECT_THAT(page.states(), ElementsAre(v1::RUNNING, v1::PAUSED));
    EXPECT_EQ(page.labels().at("team"), "vision");
  }
}

TEST_F(JobCommandsTest, AStateThatIsNoneIsNotAskedFor) {
  for (const char* state : {"runing", "", "job_state_unspecified"}) {
    EXPECT_EQ(List({.states = {state}, .labels = {}}), kUsage) << state;
  }
  EXPECT_EQ(List({.states = {}, .labels = {"team"}}), kUsage);
  EXPECT_THAT(jobs_.pages, IsEmpty());
}

TEST_F(JobCommandsTest, WorkersAreATableOrALineOfJsonEach) {
  EXPECT_EQ(Run(&ListWorkers), kOk);
  EXPECT_THAT(output_, HasSubstr("host:1  idle"));
  EXPECT_EQ(Run(&ListWorkers, /*json=*/true), kOk);
  EXPECT_EQ(std::ranges::count(output_, '\n'), 2);
  EXPECT_THAT(output_, HasSubstr("{\"name\":\"host:1\",\"threads\":0,"));
}

TEST_F(JobCommandsTest, AWatchEndsWithCurvesAndSaysWhereTheDashboardIs) {
  const auto watch = [](Session& session) { return WatchJob(session, "cnn", 1); };
  jobs_.dashboard = "http://:8002";
  EXPECT_EQ(Run(watch), kOk);
  EXPECT_TRUE(output_.starts_with("dashboard: http://127.0.0.1:8002/#/jobs/cnn\n")) << output_;
  EXPECT_THAT(output_,
              HasSubstr("  loss  #_  1.0000\n  dashboard  http://127.0.0.1:8002/#/jobs/cnn"));
  jobs_.dashboard = "";
  EXPECT_EQ(Run(watch), kOk);
  EXPECT_THAT(output_, Not(HasSubstr("dashboard")));
  jobs_.dashboard = "http://:8002";
  EXPECT_EQ(Run(watch, /*json=*/true), kOk);
  EXPECT_THAT(output_, Not(HasSubstr("http")));
}

}  // namespace
}  // namespace lockstep
