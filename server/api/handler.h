#ifndef LOCKSTEP_SERVER_API_HANDLER_H_
#define LOCKSTEP_SERVER_API_HANDLER_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
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
  // may call. `executor` must outlive the gate.
  Gate(std::string token, Executor* executor, Metrics* metrics = Metrics::Unread())
      : token_(std::move(token)), executor_(executor), metrics_(metrics) {}

  // Of a unary call, for the count of bytes.
  struct Messages {
    const google::protobuf::MessageLite* request;
    const google::protobuf::MessageLite* response;
  };

  // Runs `work` on the executor and finishes the call with what it returns. Request and response
  // are valid until then.
  grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, std::string_view method,
                                  Messages messages, absl::AnyInvocable<absl::Status()> work);

  // For calls that end on a thread of their own: `start` runs at once, must not block, and hands
  // `done` to whoever finishes the call, exactly once.
  using Done = absl::AnyInvocable<void(absl::Status)>;
  grpc::ServerUnaryReactor* UnaryAsync(grpc::CallbackServerContext* context,
                                       std::string_view method, Messages messages,
                                       absl::AnyInvocable<void(Done)> start);

  // For streams, which call both themselves: first Admit (UNAUTHENTICATED without the right token),
  // last Finish, whose result is what the reactor finishes with. They count their messages, too:
  // metrics()->RpcReceived and RpcSent.
  absl::Status Admit(const grpc::ServerContextBase& context) const;
  grpc::Status Finish(std::string_view method, absl::Time start, const absl::Status& status);

  Executor* executor() const { return executor_; }
  Metrics* metrics() const { return metrics_; }

 private:
  grpc::Status FinishUnary(std::string_view method, absl::Time start, Messages messages,
                           const absl::Status& status);

  const std::string token_;
  Executor* const executor_;
  Metrics* const metrics_;
  std::atomic<int64_t> calls_{0};
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_HANDLER_H_
