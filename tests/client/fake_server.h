#ifndef LOCKSTEP_TESTS_CLIENT_FAKE_SERVER_H_
#define LOCKSTEP_TESTS_CLIENT_FAKE_SERVER_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/client.h"

namespace lockstep {

// Services on a free port of this machine, and clients for them that give up quickly.
class FakeServer {
 public:
  explicit FakeServer(const std::vector<grpc::Service*>& services) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    for (grpc::Service* service : services) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~FakeServer() { server_->Shutdown(); }

  const std::string& address() const { return address_; }

  std::unique_ptr<Client> Connect(int attempts = 3, const std::string& token = "") const {
    ClientOptions options;
    options.address = address_;
    options.token = token;
    options.retry = {.attempts = attempts,
                     .first_pause = absl::Milliseconds(1),
                     .longest_pause = absl::Milliseconds(4)};
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CLIENT_FAKE_SERVER_H_
