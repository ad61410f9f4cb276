#include "server/api/handler.h"

#include <openssl/crypto.h>

#include <atomic>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/api/run_guarded.h"
#include "server/telemetry/log.h"
#include "server/telemetry/trace_context.h"

namespace lockstep {
namespace {

std::atomic<int64_t> last_call = 0;

// What a client sent may stand in the message, at any length.
absl::Status Shortened(const absl::Status& status) {
  constexpr size_t kLongest = 2000;
  std::string message(status.message());
  if (message.size() <= kLongest) return status;
  size_t end = kLongest;
  while (end > 0 && (message[end] & 0xc0) == 0x80) --end;  // within a character of UTF-8
  message.resize(end);
  return absl::Status(status.code(), message + "...");
}

std::vector<LogField> Ids(const Gate::Call& call) {
  return {{"rpc", call.id}, {"trace_id", call.trace_id}};
}

// Whose fault it is: what ours are, somebody should look at.
LogLevel LevelOf(const absl::Status& status) {
  if (status.ok()) return LogLevel::kDebug;
  const bool ours = absl::IsInternal(status) || absl::IsUnknown(status) || absl::IsDataLoss(status);
  return ours ? LogLevel::kWarning : LogLevel::kInfo;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

Gate::Call::Call(grpc::ServerContextBase* context, std::string_view method)
    : context(context),
      method(method),
      start(absl::Now()),
      id(last_call.fetch_add(1) + 1),
      trace_id(TraceId(*context)) {}

std::string Gate::TraceId(const grpc::ServerContextBase& context) {
  const auto [entry, end] = context.client_metadata().equal_range(kTraceparentKey);
  // Of several nobody can say which one counts.
  if (entry == end || std::next(entry) != end) return "";
  return TraceIdOf({entry->second.data(), entry->second.size()});
}

absl::Status Gate::Admit(const Call& call) const {
  if (absl::Status status = CheckToken(*call.context); !status.ok()) return status;
  if (!dashboard_.empty()) call.context->AddInitialMetadata("x-lockstep-dashboard", dashboard_);
  return absl::OkStatus();
}

absl::Status Gate::CheckToken(const grpc::ServerContextBase& context) const {
  if (token_.empty()) return absl::OkStatus();
  const auto& metadata = context.client_metadata();
  const auto entry = metadata.find("authorization");
  if (entry == metadata.end()) {
    return absl::UnauthenticatedError(
        "this server needs a token: send metadata `authorization: Bearer <token>`");
  }
  const std::string want = absl::StrCat("Bearer ", token_);
  const std::string_view given(entry->second.data(), entry->second.size());
  // In constant time, so that a stranger cannot find the token one character after the other.
  if (given.size() != want.size() || CRYPTO_memcmp(given.data(), want.data(), want.size()) != 0) {
    return absl::UnauthenticatedError("the token is wrong");
  }
  return absl::OkStatus();
}

grpc::Status Gate::Finish(const Call& call, const absl::Status& status) {
  const absl::Duration took = absl::Now() - call.start;
  metrics_->RpcEnded(call.method, status.code(), took);
  const absl::Status told = Shortened(status);
  const LogLevel level = LevelOf(status);
  if (WritesLog(level)) {
    LogLine(level, status.ok() ? "rpc" : "rpc failed",
            {{"rpc", call.id},
             {"method", call.method},
             {"code", absl::StatusCodeToString(status.code())},
             {"ms", absl::ToDoubleMilliseconds(took)},
             {"peer", call.context->peer()},
             {"trace_id", call.trace_id},
             {"error", std::string(told.message())}});
  }
  return ToGrpcStatus(told);
}

void Gate::CountReceived(const Call& call, const google::protobuf::MessageLite& message) {
  metrics_->RpcReceived(call.method, message.ByteSizeLong());
}

void Gate::CountSent(const Call& call, const google::protobuf::MessageLite& message) {
  metrics_->RpcSent(call.method, message.ByteSizeLong());
}

grpc::Status Gate::FinishUnary(const Call& call, const Messages& messages,
                               const absl::Status& status) {
  if (status.ok() && messages.response != nullptr) CountSent(call, *messages.response);
  return Finish(call, status);
}

grpc::ServerUnaryReactor* Gate::UnaryAsync(grpc::CallbackServerContext* context,
                                           std::string_view method, Messages messages,
                                           absl::AnyInvocable<void(Done)> start) {
  Call call(context, method);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (messages.request != nullptr) CountReceived(call, *messages.request);
  if (absl::Status admitted = Admit(call); !admitted.ok()) {
    reactor->Finish(Finish(call, admitted));
    return reactor;
  }
  start([this, reactor, messages, call = std::move(call)](absl::Status status) {
    reactor->Finish(FinishUnary(call, messages, status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* Gate::Unary(grpc::CallbackServerContext* context, std::string_view method,
                                      Messages messages, absl::AnyInvocable<absl::Status()> work,
                                      Executor* executor) {
  const Call call(context, method);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (messages.request != nullptr) CountReceived(call, *messages.request);
  if (absl::Status admitted = Admit(call); !admitted.ok()) {
    reactor->Finish(Finish(call, admitted));
    return reactor;
  }
  if (executor == nullptr) executor = executor_;
  const bool posted =
      executor->Post([this, reactor, messages, call, work = std::move(work)]() mutable {
        const LogScope scope(Ids(call));
        const absl::Status status = call.context->IsCancelled()
                                        ? absl::CancelledError("the client has gone")
                                        : RunGuarded(work);
        reactor->Finish(FinishUnary(call, messages, status));
      });
  if (!posted) {
    reactor->Finish(Finish(call, absl::ResourceExhaustedError("the server is busy; try again")));
  }
  return reactor;
}

}  // namespace lockstep
