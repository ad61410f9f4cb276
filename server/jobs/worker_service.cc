#include "server/jobs/worker_service.h"

#include <grpcpp/alarm.h>
#include <openssl/crypto.h>

#include <chrono>
#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/training/job_plan.h"
#include "server/api/handler.h"
#include "server/telemetry/log.h"

namespace lockstep {

// One worker's stream. Reads a message, has the manager handle it on the executor, reads the next:
// a worker that sends faster than the disk takes it is slowed down by gRPC's flow control. Deletes
// itself.
class WorkerService::Session final
    : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>,
      public WorkerLink {
 public:
  Session(WorkerService& service, std::string peer) : service_(service), peer_(std::move(peer)) {
    if (service_.sessions_.fetch_add(1) >= kMaxWorkers) {
      Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many workers"));
    } else {
      StartRead(&incoming_);
    }
  }
  ~Session() override { service_.sessions_.fetch_sub(1); }

  void OnReadDone(bool ok) override {
    // Always taken: a session has one task at a time.
    const bool posted = service_.executor_.Post([this, ok] {
      if (!ok) return End();
      if (id_ == 0) return Register();
      Handle();
    });
    if (!posted) LogLine(LogLevel::kCritical, "no room for a worker's message", {{"peer", peer_}});
  }

  void Send(v1::ServerMessage message) override {
    {
      absl::MutexLock lock(&mu_);
      outgoing_.push_back(std::move(message));
      if (outgoing_.size() > 1) return;  // OnWriteDone gets to it
    }
    Write();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return;  // the stream is broken, which the read under way will say
    {
      absl::MutexLock lock(&mu_);
      outgoing_.pop_front();
      if (outgoing_.empty()) return;
    }
    Write();
  }

  void OnDone() override { delete this; }

 private:
  // The first message.
  void Register() {
    if (absl::Status status = Check(incoming_); !status.ok()) {
      LogLine(LogLevel::kWarning, "worker refused", {{"peer", peer_}, {"status", status}});
      return Finish(ToGrpcStatus(status));
    }
    id_ = service_.manager_.Join(incoming_, this);
    StartRead(&incoming_);
  }

  // Until the manager has taken the message down, there is no next one.
  void Handle() {
    if (service_.manager_.Handle(id_, incoming_).ok()) return StartRead(&incoming_);
    constexpr std::chrono::milliseconds kPause(500);
    retry_.Set(std::chrono::system_clock::now() + kPause, [this](bool) {
      const bool posted = service_.executor_.Post([this] {
        if (service_.stopping_) return End();
        Handle();
      });
      if (!posted)
        LogLine(LogLevel::kCritical, "no room for a worker's message", {{"peer", peer_}});
    });
  }

  absl::Status Check(const v1::WorkerMessage& message) const {
    const std::string& given = message.hello().token();
    const std::string& want = service_.token_;
    // In constant time, so that a stranger cannot find the token one character after the other.
    if (given.size() != want.size() || CRYPTO_memcmp(given.data(), want.data(), want.size()) != 0) {
      return absl::PermissionDeniedError(
          "the worker's first message must be Hello with the token "
          "of this server (its --token-file)");
    }
    if (message.hello().contract() != kContract) {
      return absl::FailedPreconditionError(
          absl::StrCat("this server computes by contract \"", kContract, "\", the worker by \"",
                       message.hello().contract(), "\": run the same version on both"));
    }
    return absl::OkStatus();
  }

  void End() {
    // When this has returned, nobody calls Send any more.
    if (id_ != 0) service_.manager_.Leave(id_, "its stream ended");
    Finish(grpc::Status::OK);
  }

  void Write() {
    const v1::ServerMessage* message;
    {
      absl::MutexLock lock(&mu_);
      message = &outgoing_.front();  // stays where it is until it has been written
    }
    StartWrite(message);
  }

  WorkerService& service_;
  const std::string peer_;
  WorkerId id_ = 0;  // 0: has not said Hello yet
  v1::WorkerMessage incoming_;
  grpc::Alarm retry_;

  absl::Mutex mu_;
  // The first is being written. Short: an assignment, a cancellation or a request for a snapshot.
  std::deque<v1::ServerMessage> outgoing_ ABSL_GUARDED_BY(mu_);
};

WorkerService::WorkerService(std::string token, JobManager* manager)
    : token_(std::move(token)), manager_(*manager) {}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* WorkerService::Connect(
    grpc::CallbackServerContext* context) {
  return new Session(*this, context->peer());
}

}  // namespace lockstep
