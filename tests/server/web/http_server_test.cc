#include "server/web/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <string>

namespace lockstep {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// A server whose services are nowhere.
class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest() {
    HttpServer::Options options;
    options.host = "127.0.0.1";
    options.loopback = true;
    options.metrics = [] { return std::string("figures"); };
    options.not_ready = [] { return std::vector<std::string>(); };
    absl::StatusOr<std::unique_ptr<HttpServer>> server =
        HttpServer::Listen(std::move(options), &executor_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  void Start() {
    Api::Parts parts;
    parts.channel = grpc::CreateChannel("unix:/nowhere/at/all", grpc::InsecureChannelCredentials());
    parts.executor = &executor_;
    server_->Start(std::make_unique<Api>(std::move(parts)));
  }

  tcp::socket Connect() {
    tcp::socket socket(io_);
    socket.connect(
        {asio::ip::make_address("127.0.0.1"), static_cast<asio::ip::port_type>(server_->port())});
    return socket;
  }

  static void Ask(tcp::socket& socket, const std::string& path) {
    asio::write(socket, asio::buffer("GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
  }

  asio::io_context io_;
  std::unique_ptr<HttpServer> server_;  // outlives the executor, as in the server
  Executor executor_{2};
};

TEST_F(HttpServerTest, EndsBeforeItBegan) {}

TEST_F(HttpServerTest, EndsWithConnectionsInEveryState) {
  Start();
  tcp::socket idle = Connect();
  tcp::socket begun = Connect();
  asio::write(begun, asio::buffer(std::string("POST /api/jobs/x/cancel HTTP/1.1\r\nHo")));
  tcp::socket answered = Connect();
  Ask(answered, "/metrics");
  std::string answer(12, '\0');
  asio::read(answered, asio::buffer(answer));
  EXPECT_EQ(answer, "HTTP/1.1 200");
  tcp::socket refused = Connect();
  Ask(refused, "/api/nothing");
  asio::read(refused, asio::buffer(answer));
  EXPECT_EQ(answer, "HTTP/1.1 404");
  tcp::socket waiting = Connect();
  Ask(waiting, "/api/jobs");  // its answer may come after the end
  server_->Stop();
}

}  // namespace
}  // namespace lockstep
