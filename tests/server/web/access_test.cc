#include "server/web/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kToken[] = "a long secret";

HttpCaller OurPage() {
  return {.host = "127.0.0.1:8002",
          .origin = "http://127.0.0.1:8002",
          .fetch_site = "same-origin",
          .content_type = "application/json"};
}

TEST(AccessTest, ALoopbackServerAnswersToItsOwnNamesOnly) {
  const Access access("", /*loopback=*/true);
  for (const char* host : {"127.0.0.1:8002", "127.0.0.1", "localhost:1", "[::1]:8002", "[::1]"}) {
    EXPECT_TRUE(access.CheckHost({.host = host}).ok()) << host;
  }
  for (const char* host : {"", "evil.example", "evil.example:8002", "127.0.0.1.evil.example",
                           "localhost.evil.example:80", "::1", "[::2]:1"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(access.CheckHost({.host = host}))) << host;
  }
  EXPECT_TRUE(Access("", /*loopback=*/false).CheckHost({.host = "train.example"}).ok());
  EXPECT_TRUE(Access(kToken, /*loopback=*/true).CheckHost({.host = "train.example"}).ok());
}

TEST(AccessTest, TheTokenIsShownInTheHeaderOrByTheCookieItGives) {
  const Access access(kToken, /*loopback=*/false);
  EXPECT_TRUE(absl::IsUnauthenticated(access.CheckToken({})));
  EXPECT_TRUE(access.CheckToken({.authorization = "Bearer a long secret"}).ok());
  EXPECT_TRUE(access.CheckToken({.authorization = "bearer a long secret"}).ok());
  for (const char* wrong : {"Bearer a long secre", "Bearer a long secret ", "Bearer ",
                            "Basic a long secret", "a long secret"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(access.CheckToken({.authorization = wrong}))) << wrong;
  }

  const std::string set_cookie = access.LogIn(kToken).value();
  EXPECT_THAT(set_cookie, HasSubstr("; HttpOnly; SameSite=Strict"));
  EXPECT_THAT(set_cookie, Not(HasSubstr("secret")));
  const std::string cookie = set_cookie.substr(0, set_cookie.find(';'));
  EXPECT_TRUE(access.CheckToken({.cookie = cookie}).ok());
  EXPECT_TRUE(access.CheckToken({.cookie = "a=b; " + cookie + "; c=d"}).ok());
  EXPECT_TRUE(absl::IsUnauthenticated(access.CheckToken({.cookie = cookie + "0"})));
  const Access other("another secret", /*loopback=*/false);
  EXPECT_TRUE(absl::IsUnauthenticated(other.CheckToken({.cookie = cookie})));
  EXPECT_TRUE(absl::IsUnauthenticated(access.LogIn("another secret").status()));
}

TEST(AccessTest, OnlyOurOwnPagesAndNoPagesMayChangeAnything) {
  EXPECT_TRUE(Access::CheckSameOrigin(OurPage()).ok());
  EXPECT_TRUE(Access::CheckSameOrigin({.host = "h", .content_type = "application/json"}).ok());
  EXPECT_TRUE(Access::CheckSameOrigin({.content_type = "application/json; charset=utf-8"}).ok());
  const auto refused = [](auto change) {
    HttpCaller caller = OurPage();
    change(caller);
    return absl::IsPermissionDenied(Access::CheckSameOrigin(caller));
  };
  for (const char* origin : {"null", "http://evil.example", "http://127.0.0.1:8003",
                             "http://127.0.0.1", "127.0.0.1:8002", "file://127.0.0.1:8002"}) {
    EXPECT_TRUE(refused([&](HttpCaller& c) { c.origin = origin; })) << origin;
  }
  for (const char* site : {"cross-site", "same-site"}) {
    EXPECT_TRUE(refused([&](HttpCaller& c) { c.fetch_site = site; })) << site;
  }
  for (const char* type : {"", "text/plain", "application/x-www-form-urlencoded",
                           "multipart/form-data", "application/jsonp"}) {
    EXPECT_TRUE(refused([&](HttpCaller& c) { c.content_type = type; })) << type;
  }
}

}  // namespace
}  // namespace lockstep
