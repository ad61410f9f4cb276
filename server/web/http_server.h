#ifndef LOCKSTEP_SERVER_WEB_HTTP_SERVER_H_
#define LOCKSTEP_SERVER_WEB_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/api/executor.h"
#include "server/web/access.h"
#include "server/web/api.h"

namespace lockstep {

// HTTP/1.1 beside gRPC: the dashboard, its JSON API, live events, and what operators' tools ask for
// (/metrics, /healthz, /readyz). One thread serves all connections; what may wait runs on the
// executor. Nobody can hold or fill it: requests have to come within seconds and are bounded, so
// are connections, and who does not read is disconnected after a minute.
class HttpServer {
 public:
  struct Options {
    std::string host;  // a name or an address, IPv6 in brackets
    int port = 0;      // 0: any free one
    std::string token;
    bool loopback = true;
    std::function<std::string()> metrics;                 // Prometheus' text; may wait
    std::function<std::vector<std::string>()> not_ready;  // what is missing; must not block
  };

  // Listens; nothing is answered before Start. UNAVAILABLE when that is not possible. `executor`'s
  // tasks must have ended before the server is destroyed.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(Options options, Executor* executor);
  ~HttpServer();

  int port() const;
  void Start(std::unique_ptr<Api> api);
  // Closes all connections. Nothing is called any more afterwards.
  void Stop();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_HTTP_SERVER_H_
