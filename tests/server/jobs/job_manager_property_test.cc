// Random lives of a server: whatever clients, workers and crashes do in whatever order, what
// the README says about jobs holds after every single step.

#include <map>
#include <random>
#include <set>

#include "tests/server/jobs/fixture.h"

namespace lockstep {
namespace {

class JobManagerPropertyTest : public JobsTest, public testing::WithParamInterface<int> {
 protected:
  size_t Below(size_t bound) { return random_() % bound; }
  std::string SomeJob() { return "job" + std::to_string(Below(jobs_ + 1)); }

  void Do(int command) {
    switch (command) {
      case 0:
        Submit("job" + std::to_string(jobs_++));
        break;
      case 1:
        (void)manager_->Submit(Request(SomeJob()));
        jobs_ = AllJobs().size();
        break;
      case 2:
        Expect(SomeJob(), JobCommand::kCancel);
        break;
      case 3:
        if (workers_.size() < 4) workers_.push_back(std::make_unique<FakeWorker>(manager_.get()));
        break;
      case 6:
        Expect(SomeJob(), JobCommand::kPause);
        break;
      case 7:
        Expect(SomeJob(), JobCommand::kResume);
        break;
      case 8:
        (void)manager_->SetPriority(SomeJob(), static_cast<int32_t>(Below(3)));
        break;
      case 9:
        Advance(std::chrono::seconds(Below(40)));
        break;
      case 4:
        if (!workers_.empty()) workers_.erase(workers_.begin() + Below(workers_.size()));
        break;
      case 5:  // a crash of the server
        if (Below(4) != 0) break;
        manager_->Stop();
        workers_.clear();
        Start();
        break;
      default:
        if (!workers_.empty()) Speak(*workers_[Below(workers_.size())]);
    }
  }

  // A command does what the table says, or is refused and changes nothing.
  void Expect(const std::string& id, JobCommand command) {
    const absl::StatusOr<v1::Job> before = manager_->Get(id);
    const absl::Status status = command == JobCommand::kPause    ? manager_->Pause(id).status()
                                : command == JobCommand::kResume ? manager_->Resume(id).status()
                                                                 : manager_->Cancel(id).status();
    if (!before.ok()) {
      ASSERT_EQ(status.code(), absl::StatusCode::kNotFound);
      return;
    }
    const absl::StatusOr<v1::JobState> wanted = NextState(before->state(), command);
    ASSERT_EQ(status.ok(), wanted.ok()) << status;
    const v1::JobState after = Job(id).state();
    if (!wanted.ok()) {
      ASSERT_EQ(after, before->state());
    } else {
      // A resumed job may have found a worker at once.
      ASSERT_TRUE(after == *wanted || (command == JobCommand::kResume && after == v1::RUNNING));
    }
  }

  // Something about the worker's newest assignment, or, as a message of the past, an older one.
  void Speak(FakeWorker& worker) {
    std::vector<v1::ServerMessage> assignments;
    for (const v1::ServerMessage& message : worker.received()) {
      if (message.has_assignment()) assignments.push_back(message);
    }
    if (assignments.empty()) return;
    const v1::ServerMessage& about =
        Below(3) == 0 ? assignments[Below(assignments.size())] : assignments.back();
    switch (Below(9)) {
      case 6:
        return worker.ConfirmYielded(about);
      case 7:
      case 8: {
        const std::string step = std::to_string(1 + Below(3));
        return worker.ReportCheckpoint(about, std::stoll(step),
                                       AddBlob(about.job_id() + " at " + step));
      }
      case 0:
        return worker.Succeed(about, AddBlob("weights of " + about.job_id()));
      case 1:
        return worker.Fail(about, "no luck");
      case 2:
        return worker.ConfirmCancelled(about);
      default:
        return worker.ReportStep(about, static_cast<int64_t>(1 + Below(3)), 0.5);
    }
  }

  void Check() {
    std::map<std::string, v1::Job> now;
    for (const v1::Job& job : AllJobs()) now[job.id()] = job;
    for (const auto& [id, job] : now) {
      SCOPED_TRACE(id);
      const v1::Job stored = Value(store_->GetJob(id));
      ASSERT_EQ(stored.state(), job.state()) << "the store is the truth";
      ASSERT_EQ(stored.attempt(), job.attempt());
      CheckLog(job);
      const v1::Job whole = Job(id);
      for (const v1::Checkpoint& checkpoint : whole.checkpoints()) {
        ASSERT_TRUE(HasBlob(checkpoint.blob())) << "of step " << checkpoint.step();
      }
      ASSERT_EQ(job.has_published(), job.state() == v1::SUCCEEDED);
      if (job.has_published()) {
        ASSERT_TRUE(store_->GetModel(job.published().name(), job.published().version()).ok());
      }
      if (const auto before = before_.find(id); before != before_.end()) {
        ASSERT_GE(job.attempt(), before->second.attempt());
        if (HasEnded(before->second.state())) {
          ASSERT_EQ(job.SerializeAsString(), before->second.SerializeAsString())
              << "what has ended never changes";
        }
      }
    }
    for (const auto& [id, job] : before_) ASSERT_TRUE(now.contains(id)) << id << " is gone";

    // No attempt is given out twice.
    for (const auto& worker : workers_) {
      for (const v1::ServerMessage& message : worker->received()) {
        if (!message.has_assignment()) continue;
        const auto [place, is_new] =
            given_.insert({{message.job_id(), message.attempt()}, worker.get()});
        ASSERT_TRUE(is_new || place->second == worker.get()) << message.job_id();
      }
    }
    before_ = std::move(now);
  }

  void CheckLog(const v1::Job& job) {
    const std::vector<v1::Event> events = Events(job.id());
    v1::StateChange last;
    std::set<int64_t> steps;
    for (size_t i = 0; i < events.size(); ++i) {
      ASSERT_EQ(events[i].sequence(), static_cast<int64_t>(i + 1));
      if (events[i].has_state()) last = events[i].state();
      if (events[i].has_step()) {
        ASSERT_TRUE(steps.insert(events[i].step().step()).second) << "a step is logged once";
      }
    }
    ASSERT_EQ(last.state(), job.state()) << "the log follows the store";
    ASSERT_TRUE(!HasEnded(job.state()) || events.back().has_state()) << "nothing comes after";
  }

  std::mt19937 random_{static_cast<unsigned>(GetParam())};
  size_t jobs_ = 0;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::map<std::string, v1::Job> before_;
  // Kept for the test's whole life; a worker's address is only compared while it lives.
  std::map<std::pair<std::string, int32_t>, const FakeWorker*> given_;
};

TEST_P(JobManagerPropertyTest, RandomLivesKeepThePromises) {
  for (int i = 0; i < 120 && !HasFatalFailure(); ++i) {
    const int command = static_cast<int>(Below(18));
    SCOPED_TRACE(testing::Message() << "step " << i << ", command " << command);
    Do(command);
    Check();
  }
  // At the end everything can still be brought to an end.
  workers_.clear();
  for (const v1::Job& job : AllJobs()) {
    if (job.state() == v1::PAUSED) {
      ASSERT_TRUE(manager_->Resume(job.id()).ok());
    }
  }
  Advance(std::chrono::minutes(2));
  FakeWorker worker(manager_.get());
  for (int i = 0; i < 200 && worker.last().has_assignment(); ++i) {
    const v1::ServerMessage assigned = worker.last();
    worker.Succeed(assigned, AddBlob("weights of " + assigned.job_id()));
    if (worker.last().job_id() == assigned.job_id()) break;
  }
  for (const v1::Job& job : AllJobs()) EXPECT_TRUE(HasEnded(job.state())) << job.id();
  Check();
}

INSTANTIATE_TEST_SUITE_P(Seeds, JobManagerPropertyTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace lockstep
