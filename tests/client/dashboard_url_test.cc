// Where people are sent to look: never anywhere that the server's words could make of it.

#include "client/lib/dashboard_url.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(DashboardUrlTest, HostIsTheServersOwnOrTheOneThatTheClientReached) {
  EXPECT_EQ(DashboardUrl("http://10.0.0.7:8002", "other:8001"), "http://10.0.0.7:8002");
  EXPECT_EQ(DashboardUrl("http://[::1]:8002", "other:8001"), "http://[::1]:8002");
  EXPECT_EQ(DashboardUrl("http://:8002", "trainer.example:8001"), "http://trainer.example:8002");
  EXPECT_EQ(DashboardUrl("http://:8002", "[fd00::1]:8001"), "http://[fd00::1]:8002");
  EXPECT_EQ(DashboardUrl("http://:8002", "unix:/run/lockstep.sock"), "http://localhost:8002");
}

TEST(DashboardUrlTest, AnythingElseIsNoAddress) {
  for (const std::string_view told :
       {"", "http://", "http://host", "http://host:", "http://host:0", "http://host:65536",
        "http://host:80x", "http://host: 80", "http://host:-1", "https://host:80", "host:80",
        "javascript:alert(1):80", "http://host/path:80", "http://user@host:80",
        "http://host\x1b]0;x\x07:80", "http://host\n:80", "http://ho st:80"}) {
    EXPECT_EQ(DashboardUrl(told, "server:8001"), "") << told;
  }
  EXPECT_EQ(DashboardUrl("http://:8002", ""), "");
}

}  // namespace
}  // namespace lockstep
