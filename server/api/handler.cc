#include "server/api/handler.h"

#include <openssl/crypto.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep {
namespace {

// A library's exception ends one call, not the server.
absl::Status RunGuarded(absl::AnyInvocable<absl::Status()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected: ", error.what()));
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

absl::Status Gate::Admit(const grpc::ServerContextBase& context) const {
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

grpc::Status Gate::Finish(std::string_view method, absl::Time start, const absl::Status& status) {
  const int64_t calls = calls_.fetch_add(1) + 1;
  const absl::Duration took = absl::Now() - start;
  metrics_->RpcEnded(method, status.code(), took);
  spdlog::debug("rpc method={} status={} micros={} calls={}", method,
                absl::StatusCodeToString(status.code()), absl::ToInt64Microseconds(took), calls);
  if (absl::IsInternal(status) || absl::IsUnknown(status) || absl::IsDataLoss(status)) {
    spdlog::warn("rpc failed method={} status=\"{}\"", method, status.ToString());
  }
  return ToGrpcStatus(status);
}

grpc::Status Gate::FinishUnary(std::string_view method, absl::Time start, Messages messages,
                               const absl::Status& status) {
  if (status.ok()) metrics_->RpcSent(method, messages.response->ByteSizeLong());
  return Finish(method, start, status);
}

grpc::ServerUnaryReactor* Gate::UnaryAsync(grpc::CallbackServerContext* context,
                                           std::string_view method, Messages messages,
                                           absl::AnyInvocable<void(Done)> start) {
  const absl::Time begin = absl::Now();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  metrics_->RpcReceived(method, messages.request->ByteSizeLong());
  if (absl::Status admitted = Admit(*context); !admitted.ok()) {
    reactor->Finish(Finish(method, begin, admitted));
    return reactor;
  }
  start([this, reactor, method, begin, messages](absl::Status status) {
    reactor->Finish(FinishUnary(method, begin, messages, status));
  });
  return reactor;
}

grpc::ServerUnaryReactor* Gate::Unary(grpc::CallbackServerContext* context, std::string_view method,
                                      Messages messages, absl::AnyInvocable<absl::Status()> work) {
  const absl::Time begin = absl::Now();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  metrics_->RpcReceived(method, messages.request->ByteSizeLong());
  if (absl::Status admitted = Admit(*context); !admitted.ok()) {
    reactor->Finish(Finish(method, begin, admitted));
    return reactor;
  }
  const bool posted =
      executor_->Post([this, reactor, method, begin, messages, work = std::move(work)]() mutable {
        reactor->Finish(FinishUnary(method, begin, messages, RunGuarded(work)));
      });
  if (!posted) {
    reactor->Finish(
        Finish(method, begin, absl::ResourceExhaustedError("the server is busy; try again")));
  }
  return reactor;
}

}  // namespace lockstep
