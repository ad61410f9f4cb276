#include "server/web/access.h"

#include <openssl/crypto.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/data/digest.h"
#include "server/api/listen_address.h"

namespace lockstep {
namespace {

constexpr absl::string_view kCookieName = "lockstep_session";
constexpr absl::string_view kBearer = "Bearer ";

// In a time that does not depend on where they differ.
bool SameSecret(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// HOST of HOST, HOST:PORT and [ADDRESS]:PORT.
std::string WithoutPort(absl::string_view host) {
  const size_t colon = host.rfind(':');
  const bool port = colon != host.npos && host.find(']', colon) == host.npos;
  return std::string(port ? host.substr(0, colon) : host);
}

}  // namespace

Access::Access(std::string token, bool loopback)
    : token_(std::move(token)),
      loopback_(loopback),
      cookie_(absl::StrCat(kCookieName, "=", Sha256(absl::StrCat("lockstep session ", token_)))) {}

absl::Status Access::CheckHost(const HttpCaller& caller) const {
  // With a token a foreign page learns nothing: the cookie is not sent to its name.
  if (!loopback_ || !token_.empty()) return absl::OkStatus();
  if (IsLoopbackHost(WithoutPort(caller.host))) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("this server answers to localhost only, not to \"", caller.host, "\""));
}

absl::Status Access::CheckToken(const HttpCaller& caller) const {
  if (token_.empty()) return absl::OkStatus();
  if (absl::StartsWithIgnoreCase(caller.authorization, kBearer) &&
      SameSecret(caller.authorization.substr(kBearer.size()), token_)) {
    return absl::OkStatus();
  }
  for (absl::string_view cookie : absl::StrSplit(caller.cookie, "; ")) {
    if (SameSecret(cookie, cookie_)) return absl::OkStatus();
  }
  return absl::UnauthenticatedError("this server wants its token");
}

absl::Status Access::CheckSameOrigin(const HttpCaller& caller) {
  absl::string_view origin = caller.origin;
  if (!origin.empty()) {
    const bool scheme =
        absl::ConsumePrefix(&origin, "http://") || absl::ConsumePrefix(&origin, "https://");
    if (!scheme || origin != caller.host) {
      return absl::PermissionDeniedError(absl::StrCat(
          "a page of \"", caller.origin, "\" may not change anything on \"", caller.host, "\""));
    }
  }
  if (!caller.fetch_site.empty() && caller.fetch_site != "same-origin" &&
      caller.fetch_site != "none") {
    return absl::PermissionDeniedError("a page of another site may not change anything here");
  }
  const absl::string_view type = caller.content_type.substr(0, caller.content_type.find(';'));
  if (type != "application/json") {
    return absl::PermissionDeniedError("Content-Type must be application/json");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Access::LogIn(absl::string_view token) const {
  if (!SameSecret(token, token_))
    return absl::UnauthenticatedError("that is not this server's token");
  return absl::StrCat(cookie_, "; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000");
}

}  // namespace lockstep
