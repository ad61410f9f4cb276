#include "server/api/listen_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace lockstep {
bool IsLoopbackHost(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  absl::string_view bare = host;
  in6_addr v6;
  return absl::ConsumePrefix(&bare, "[") && absl::ConsumeSuffix(&bare, "]") &&
         inet_pton(AF_INET6, std::string(bare).c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  ListenAddress address;
  if (colon != std::string::npos) address.host = text.substr(0, colon);
  const bool bare_v6 = absl::StrContains(address.host, ':') && !absl::StartsWith(address.host, "[");
  if (address.host.empty() || bare_v6 || !absl::SimpleAtoi(text.substr(colon + 1), &address.port) ||
      address.port < 0 || address.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be HOST:PORT, with PORT 0 to 65535 and an IPv6 HOST in brackets, got \"",
                     text, "\""));
  }
  address.loopback = IsLoopbackHost(address.host);
  return address;
}

}  // namespace lockstep
