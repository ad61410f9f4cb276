#include "server/app/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

// A container that is given less than the machine refuses jobs that would not fit it.
TEST(MemoryLimit, IsTheContainersWhenThatIsLess) {
  TemporaryDirectory root;
  const int64_t machine = MemoryLimitBytes(root.path());
  EXPECT_GT(machine, int64_t{1} << 26);

  std::ofstream(root.path() + "/memory.max") << "max\n";
  EXPECT_EQ(MemoryLimitBytes(root.path()), machine);
  std::ofstream(root.path() + "/memory.max") << "67108864\n";
  EXPECT_EQ(MemoryLimitBytes(root.path()), 67108864);
  std::filesystem::create_directory(root.path() + "/memory");
  std::ofstream(root.path() + "/memory/memory.limit_in_bytes") << "33554432\n";
  EXPECT_EQ(MemoryLimitBytes(root.path()), 33554432);
}

}  // namespace
}  // namespace lockstep
