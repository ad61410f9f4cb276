#ifndef LOCKSTEP_SERVER_WEB_ACCESS_H_
#define LOCKSTEP_SERVER_WEB_ACCESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// What a request's headers say about who sends it; empty without the header.
struct HttpCaller {
  absl::string_view host;
  absl::string_view origin;
  absl::string_view fetch_site;  // Sec-Fetch-Site
  absl::string_view content_type;
  absl::string_view authorization;
  absl::string_view cookie;
};

// Who may do what over HTTP. A server without a token lets everybody in who can reach it, so a
// foreign page in a browser on its machine must not reach it: neither by a name that it makes point
// here (DNS rebinding), nor by a form or script of its own (cross-site request forgery).
// Thread-safe.
class Access {
 public:
  // `token` empty: everybody may. `loopback`: nobody but this machine can reach the server.
  Access(std::string token, bool loopback);

  // Whether the request came to a name that is ours. PERMISSION_DENIED otherwise.
  absl::Status CheckHost(const HttpCaller& caller) const;
  // Whether the caller has shown the token, as `Authorization: Bearer TOKEN` or by the cookie.
  // UNAUTHENTICATED otherwise.
  absl::Status CheckToken(const HttpCaller& caller) const;
  // For what changes anything: it comes from a page of ours or from no page at all, and could not
  // be a form. PERMISSION_DENIED otherwise.
  static absl::Status CheckSameOrigin(const HttpCaller& caller);

  // The value of Set-Cookie for who has the right token. UNAUTHENTICATED otherwise.
  absl::StatusOr<std::string> LogIn(absl::string_view token) const;

 private:
  const std::string token_;
  const bool loopback_;
  const std::string cookie_;  // NAME=VALUE; made of the token, which it does not give away
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_ACCESS_H_
