#include "server/jobs/job_service.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace lockstep {
namespace {

absl::Status Busy() { return absl::ResourceExhaustedError("the server is busy; try again"); }

// Writes an expression's value into a response.
template <typename T>
absl::Status Answer(absl::StatusOr<T> result, T* response) {
  if (result.ok()) *response = *std::move(result);
  return result.status();
}

// One watcher: reads a batch of the log, writes its events one after the other, reads the next, and
// waits at the log's end for more. One of these is going on at a time, so the fields need no lock;
// only a cancellation comes in between, and it matters only to a watcher that waits. Whatever the
// client does, one batch is all the memory it costs. Deletes itself.
class Watcher final : public grpc::ServerWriteReactor<v1::Event> {
 public:
  Watcher(grpc::CallbackServerContext* context, Gate& gate, JobManager& manager)
      : gate_(gate), call_(context, "JobService.WatchJob"), manager_(manager) {}

  void Start(const v1::WatchJobRequest& request) {
    if (absl::Status admitted = gate_.Admit(call_); !admitted.ok()) return End(admitted);
    if (request.from_sequence() < 0) {
      return End(absl::InvalidArgumentError(
          absl::StrCat("from_sequence: must be >= 0, got ", request.from_sequence())));
    }
    next_ = std::max<int64_t>(1, request.from_sequence());
    const bool posted = gate_.executor()->Post([this, id = request.id()] {
      absl::StatusOr<std::shared_ptr<EventLog>> log = manager_.Log(id);
      if (!log.ok()) return End(log.status());
      log_ = *std::move(log);
      Read();
    });
    if (!posted) End(Busy());
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return End(absl::CancelledError("the watcher is gone"));
    if (++written_ < batch_.events.size()) return StartWrite(&batch_.events[written_]);
    if (batch_.end) return End(absl::OkStatus());
    PostRead();
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mu_);
      cancelled_ = true;
      if (!waiting_) return;  // the next write fails
      waiting_ = false;
    }
    log_->CancelNotify(ticket_);
    End(absl::CancelledError("the watcher is gone"));
  }

  void OnDone() override { delete this; }

 private:
  static constexpr int kBatch = 64;

  void PostRead() {
    if (!gate_.executor()->Post([this] { Read(); })) End(Busy());
  }

  // On the executor.
  void Read() {
    do {
      absl::StatusOr<EventLog::Batch> batch = log_->Read(next_, kBatch);
      if (!batch.ok()) return End(batch.status());
      batch_ = *std::move(batch);
      if (!batch_.events.empty()) {
        next_ = batch_.events.back().sequence() + 1;
        written_ = 0;
        return StartWrite(&batch_.events.front());
      }
      if (batch_.end) return End(absl::OkStatus());
    } while (Wait());
  }

  // True: go on at once. False: whoever ends the wait goes on; do not touch `this` any more.
  bool Wait() {
    {
      absl::MutexLock lock(&mu_);
      ready_ = false;
    }
    const int64_t ticket = log_->NotifyFrom(next_, [this] { OnReady(); });
    {
      absl::MutexLock lock(&mu_);
      if (ready_) return true;
      if (!cancelled_) {
        ticket_ = ticket;
        waiting_ = true;
        return false;
      }
    }
    log_->CancelNotify(ticket);
    End(absl::CancelledError("the watcher is gone"));
    return false;
  }

  void OnReady() {
    {
      absl::MutexLock lock(&mu_);
      ready_ = true;
      if (!waiting_) return;  // Wait() has not returned yet, or the watcher is cancelled
      waiting_ = false;
    }
    PostRead();
  }

  void End(const absl::Status& status) { Finish(gate_.Finish(call_, status)); }

  Gate& gate_;
  const Gate::Call call_;
  JobManager& manager_;
  std::shared_ptr<EventLog> log_;
  int64_t next_ = 1;  // sequence number to read from
  EventLog::Batch batch_;
  size_t written_ = 0;  // events of the batch
  int64_t ticket_ = 0;  // of the wait, while waiting_

  absl::Mutex mu_;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
  bool ready_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* JobService::SubmitJob(grpc::CallbackServerContext* context,
                                                const v1::SubmitJobRequest* request,
                                                v1::Job* response) {
  return gate_.Unary(context, "JobService.SubmitJob",
                     [=, this, trace_id = Gate::TraceId(*context)] {
                       return Answer(manager_.Submit(*request, trace_id), response);
                     });
}

grpc::ServerUnaryReactor* JobService::ValidateJob(grpc::CallbackServerContext* context,
                                                  const v1::ValidateJobRequest* request,
                                                  v1::ValidateJobResponse* response) {
  return gate_.Unary(context, "JobService.ValidateJob",
                     [=, this] { return Answer(manager_.Validate(request->spec()), response); });
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* context,
                                             const v1::GetJobRequest* request, v1::Job* response) {
  return gate_.Unary(context, "JobService.GetJob",
                     [=, this] { return Answer(manager_.Get(request->id()), response); });
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* context,
                                               const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return gate_.Unary(context, "JobService.ListJobs",
                     [=, this] { return Answer(manager_.List(*request), response); });
}

grpc::ServerUnaryReactor* JobService::CancelJob(grpc::CallbackServerContext* context,
                                                const v1::CancelJobRequest* request,
                                                v1::Job* response) {
  return gate_.Unary(context, "JobService.CancelJob",
                     [=, this] { return Answer(manager_.Cancel(request->id()), response); });
}

grpc::ServerUnaryReactor* JobService::PauseJob(grpc::CallbackServerContext* context,
                                               const v1::PauseJobRequest* request,
                                               v1::Job* response) {
  return gate_.Unary(context, "JobService.PauseJob",
                     [=, this] { return Answer(manager_.Pause(request->id()), response); });
}

grpc::ServerUnaryReactor* JobService::ResumeJob(grpc::CallbackServerContext* context,
                                                const v1::ResumeJobRequest* request,
                                                v1::Job* response) {
  return gate_.Unary(context, "JobService.ResumeJob",
                     [=, this] { return Answer(manager_.Resume(request->id()), response); });
}

grpc::ServerUnaryReactor* JobService::DeleteJob(grpc::CallbackServerContext* context,
                                                const v1::DeleteJobRequest* request,
                                                v1::DeleteJobResponse*) {
  return gate_.Unary(context, "JobService.DeleteJob",
                     [=, this] { return manager_.Delete(request->id()); });
}

grpc::ServerUnaryReactor* JobService::SetJobPriority(grpc::CallbackServerContext* context,
                                                     const v1::SetJobPriorityRequest* request,
                                                     v1::Job* response) {
  return gate_.Unary(context, "JobService.SetJobPriority", [=, this] {
    return Answer(manager_.SetPriority(request->id(), request->priority()), response);
  });
}

grpc::ServerWriteReactor<v1::Event>* JobService::WatchJob(grpc::CallbackServerContext* context,
                                                          const v1::WatchJobRequest* request) {
  auto* watcher = new Watcher(context, gate_, manager_);
  watcher->Start(*request);
  return watcher;
}

grpc::ServerUnaryReactor* JobService::GetJobWeights(grpc::CallbackServerContext* context,
                                                    const v1::GetJobWeightsRequest* request,
                                                    v1::Weights* response) {
  return gate_.UnaryAsync(context, "JobService.GetJobWeights", [=, this](Gate::Done done) {
    auto shared = std::make_shared<Gate::Done>(std::move(done));
    const bool posted = gate_.executor()->Post([=, this] {
      manager_.Weights(request->id(), [=](absl::StatusOr<v1::Weights> weights) {
        (*shared)(Answer(std::move(weights), response));
      });
    });
    if (!posted) (*shared)(Busy());
  });
}

grpc::ServerUnaryReactor* JobService::ListWorkers(grpc::CallbackServerContext* context,
                                                  const v1::ListWorkersRequest*,
                                                  v1::ListWorkersResponse* response) {
  return gate_.Unary(context, "JobService.ListWorkers", [=, this] {
    *response = manager_.Workers();
    return absl::OkStatus();
  });
}

}  // namespace lockstep
