#ifndef LOCKSTEP_SERVER_API_LISTEN_ADDRESS_H_
#define LOCKSTEP_SERVER_API_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

struct ListenAddress {
  std::string host;       // as it was given: a name or an address, IPv6 in brackets
  int port = 0;           // 0: any free one
  bool loopback = false;  // only this machine can reach it
};

// A name or an address (IPv6 in brackets) that stands for this machine alone.
bool IsLoopbackHost(const std::string& host);

// HOST:PORT. INVALID_ARGUMENT says what is allowed.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_LISTEN_ADDRESS_H_
