#include "server/api/listen_address.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

// What decides whether a server may run without a token.
TEST(ListenAddress, KnowsWhatOnlyThisMachineReaches) {
  for (const char* text : {"127.0.0.1:8001", "127.8.9.10:0", "localhost:80", "[::1]:8001"}) {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_TRUE(address->loopback) << text;
  }
  for (const char* text : {"0.0.0.0:8001", "[::]:8001", "128.0.0.1:1", "10.0.0.1:65535",
                           "127.0.0.1.example.org:80", "[::ffff:127.0.0.2]:8001", "*:8001"}) {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_FALSE(address->loopback) << text;
  }
}

TEST(ListenAddress, SplitsHostAndPort) {
  absl::StatusOr<ListenAddress> address = ParseListenAddress("[fe80::1]:443");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->host, "[fe80::1]");
  EXPECT_EQ(address->port, 443);
}

TEST(ListenAddress, RefusesWhatIsNone) {
  for (const char* text : {"", ":", ":8001", "localhost", "localhost:", "localhost:http",
                           "localhost:-1", "localhost:65536", "::1:8001", "unix:/tmp/x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseListenAddress(text).status())) << text;
  }
}

}  // namespace
}  // namespace lockstep
