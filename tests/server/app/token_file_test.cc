#include "server/app/token_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

TEST(TokenFile, WhatIsMadeUpCanBeReadByItsOwnerOnly) {
  TemporaryDirectory directory;
  absl::StatusOr<std::string> token = WriteNewToken(directory / "token");
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(token->size(), 64u);
  EXPECT_EQ(*ReadTokenFile(directory / "token"), *token);
  struct stat status;
  ASSERT_EQ(stat((directory / "token").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_NE(*WriteNewToken(directory / "token"), *token);
}

TEST(TokenFile, EmptyOrMissingIsNoToken) {
  TemporaryDirectory directory;
  EXPECT_TRUE(absl::IsNotFound(ReadTokenFile(directory / "missing").status()));
  std::ofstream(directory / "blank") << " \n\t\n";
  EXPECT_TRUE(absl::IsInvalidArgument(ReadTokenFile(directory / "blank").status()));
}

// gRPC ends the process that hands it one as metadata.
TEST(TokenFile, WhatNoHeaderMayHoldIsRefused) {
  TemporaryDirectory directory;
  for (const char* token : {"two\nlines", "schl\xc3\xbcssel", "bell\a"}) {
    std::ofstream(directory / "token") << token;
    EXPECT_TRUE(absl::IsInvalidArgument(ReadTokenFile(directory / "token").status())) << token;
  }
}

}  // namespace
}  // namespace lockstep
