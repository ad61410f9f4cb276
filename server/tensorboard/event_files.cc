#include "server/tensorboard/event_files.h"

#include <google/protobuf/util/time_util.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/api/run_guarded.h"
#include "server/telemetry/log.h"

namespace lockstep {

using google::protobuf::util::TimeUtil;

EventFiles::EventFiles(Options options, JobManager* jobs)
    : options_(std::move(options)), jobs_(jobs), thread_([this] { Work(); }) {}

EventFiles::~EventFiles() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

void EventFiles::Follow(const std::string& id) {
  absl::MutexLock lock(&mu_);
  due_.insert(id);
}

void EventFiles::Work() {
  FindIncomplete();
  absl::Time retry = absl::Now() + options_.retry;
  while (true) {
    std::set<std::string> due;
    {
      absl::MutexLock lock(&mu_);
      const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stopping_ || !due_.empty();
      };
      if (failed_.empty()) {
        mu_.Await(absl::Condition(&ready));
      } else {
        mu_.AwaitWithDeadline(absl::Condition(&ready), retry);
      }
      if (stopping_) return;
      due.swap(due_);
    }
    if (absl::Now() >= retry) {
      due.merge(std::exchange(failed_, {}));
      retry = absl::Now() + options_.retry;
    }
    for (const std::string& id : due) {
      if (failed_.contains(id)) continue;
      UpdateFile(id);
      absl::MutexLock lock(&mu_);
      if (stopping_) return;  // the next server does the others
    }
    // What comes in the meantime is written together.
    absl::MutexLock lock(&mu_);
    if (mu_.AwaitWithTimeout(absl::Condition(&stopping_), options_.pause)) return;
  }
}

void EventFiles::FindIncomplete() {
  std::error_code error;
  std::filesystem::directory_iterator entry(options_.runs_directory, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (!HasCompleteEventFile(entry->path())) Follow(entry->path().filename());
  }
}

void EventFiles::UpdateFile(const std::string& id) {
  Run& run = runs_[id];
  const absl::StatusOr<bool> complete = RunGuarded([&] { return CatchUp(id, run); });
  if (complete.ok() ? *complete : absl::IsNotFound(complete.status())) {
    runs_.erase(id);
    return;
  }
  if (!complete.ok()) {
    failed_.insert(id);
    if (!run.failing) {
      LogLine(LogLevel::kWarning, "cannot write an event file",
              {{"job", id}, {"status", complete.status()}});
    }
  }
  run.failing = !complete.ok();
}

absl::StatusOr<bool> EventFiles::CatchUp(const std::string& id, Run& run) {
  // Waits until the manager has done what it said it was about to do.
  const absl::StatusOr<v1::Job> job = jobs_->Get(id);
  if (!job.ok()) return job.status();
  if (job->attempt() == 0) return true;  // there is nothing to see yet
  const int64_t create_time_ns = TimeUtil::TimestampToNanoseconds(job->create_time());
  // A deleted job's id may be another's now.
  if (run.file == nullptr || run.create_time_ns != create_time_ns) {
    run.create_time_ns = create_time_ns;
    run.file = std::make_unique<EventFile>(absl::StrCat(options_.runs_directory, "/", id), *job,
                                           options_.least_free_bytes);
    run.log = nullptr;
  }
  absl::StatusOr<std::shared_ptr<EventLog>> log = run.log;
  if (run.log == nullptr) log = jobs_->Log(id);
  if (!log.ok()) return log.status();
  // Thousands may be waiting: only a running one's log stays open.
  run.log = job->state() == v1::RUNNING ? *log : nullptr;
  return run.file->Update(**log);
}

}  // namespace lockstep
