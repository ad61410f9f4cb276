#ifndef LOCKSTEP_SERVER_API_HANDLER_H_
#define LOCKSTEP_SERVER_API_HANDLER_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/api/executor.h"
#include "server/telemetry/metrics.h"

namespace lockstep {

// The codes are the same numbers on both sides.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The door of a listener: every RPC of ours goes through it, so that who may call, how errors
// become statuses and what is counted and logged is decided in one place. Thread-safe.
//
//   grpc::ServerUnaryReactor* GetDataset(grpc::CallbackServerContext* context,
//                                        const v1::GetDatasetRequest* request,
//                                        v1::Dataset* response) override {
//     return gate_.Unary(context, "DatasetService.GetDataset", {request, response},
//                        [=, this] { ... });
//   }
//
// `method` is a string literal everywhere below: it is kept by reference until the call ends.
class Gate {
 public:
  // Callers must bring the metadata `authorization: Bearer <token>`; with an empty token everybody
  // may call. `executor` must outlive the gate. `dashboard` is where the dashboard is, for clients
  // to tell people: "http://HOST:PORT", without HOST where it listens on any address; every
  // admitted call has it as initial metadata, unless it is empty.
  Gate(std::string token, Executor* executor, std::string dashboard = "",
       Metrics* metrics = Metrics::Unread())
      : token_(std::move(token)),
        executor_(executor),
        dashboard_(std::move(dashboard)),
        metrics_(metrics) {}

  // Of a unary call, to count their bytes; those of null are not counted.
  struct Messages {
    const google::protobuf::MessageLite* request = nullptr;
    const google::protobuf::MessageLite* response = nullptr;
  };

  // Runs `work` on the executor, or another one, and finishes the call with what it returns; lines
  // that it logs have the call's `rpc` and `trace_id`. Request and response are valid until then.
  // Work whose client has gone before it began is not done.
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, std::string_view method,
                                  Messages messages, absl::AnyInvocable<absl::Status()> work,
                                  Executor* executor = nullptr);

  // For calls that end on a thread of their own: `start` runs at once, must not block, and hands
  // `done` to whoever finishes the call, exactly once.
  using Done = absl::AnyInvocable<void(absl::Status)>;
  grpc::ServerUnaryReactor* UnaryAsync(grpc::CallbackServerContext* context,
                                       std::string_view method, Messages messages,
                                       absl::AnyInvocable<void(Done)> start);

  // A call under way.
  struct Call {
    // `context` must outlive it.
    Call(grpc::ServerContextBase* context, std::string_view method);

    grpc::ServerContextBase* context;
    std::string_view method;
    absl::Time start;
    int64_t id;            // no other call of this process has it
    std::string trace_id;  // of the client's trace; empty if it named none
  };
  // For streams, which call both themselves: first Admit (UNAUTHENTICATED without the right token),
  // last Finish, whose result is what the reactor finishes with.
  absl::Status Admit(const Call& call) const;
  grpc::Status Finish(const Call& call, const absl::Status& status);

  // For streams: counts a message. For unary calls that is done.
  void CountReceived(const Call& call, const google::protobuf::MessageLite& message);
  void CountSent(const Call& call, const google::protobuf::MessageLite& message);

  // What the client's metadata `traceparent` names.
  static std::string TraceId(const grpc::ServerContextBase& context);

  Executor* executor() const { return executor_; }
  Metrics* metrics() const { return metrics_; }

 private:
  absl::Status CheckToken(const grpc::ServerContextBase& context) const;
  grpc::Status FinishUnary(const Call& call, const Messages& messages, const absl::Status& status);

  const std::string token_;
  Executor* const executor_;
  const std::string dashboard_;
  Metrics* const metrics_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_HANDLER_H_
