#include "server/store/data_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

TEST(DataDirectory, BelongsToOneServerAtATime) {
  TemporaryDirectory parent;
  const std::string path = parent / "data";
  {
    absl::StatusOr<DataDirectory> first = DataDirectory::Open(path);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(std::filesystem::is_directory(first->runs()));
    const absl::StatusOr<DataDirectory> second = DataDirectory::Open(path);
    EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("another server"));
  }
  EXPECT_TRUE(DataDirectory::Open(path).ok()) << "the lock ends with its holder";
}

TEST(DataDirectory, SaysWhichPathIsInTheWay) {
  TemporaryDirectory parent;
  std::ofstream(parent / "file") << "not a directory";
  const absl::Status status = DataDirectory::Open(parent / "file/data").status();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(parent / "file/data"));
}

}  // namespace
}  // namespace lockstep
