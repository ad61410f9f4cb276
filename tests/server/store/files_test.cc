#include "server/store/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/store/faults.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Whatever fails once while a file is replaced: it is reported, the file is whole, old or new, and
// the next try succeeds.
TEST(FilesTest, AnyFailureOfAReplacementIsReportedAndLeavesAWholeFile) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  const std::string before(1000, 'a');
  const std::string after(2000, 'b');
  for (const faults::Kind kind :
       {faults::Kind::kError, faults::Kind::kCutShort, faults::Kind::kErrorAfter}) {
    int index = 0;
    for (bool met = true; met; ++index) {
      SCOPED_TRACE(absl::StrCat("operation ", index, " kind ", static_cast<int>(kind)));
      ASSERT_TRUE(WriteFileAtomically(path, before, 0600).ok());
      faults::FailOnce(index, kind);
      const absl::Status status = WriteFileAtomically(path, after, 0600);
      met = faults::Stop();
      const std::string now = Contents(path);
      ASSERT_TRUE(now == before || now == after) << now.size() << " bytes";
      if (status.ok()) {
        ASSERT_EQ(now, after);
        // The directory's descriptor is only read from, so its close says nothing about data.
        ASSERT_TRUE(!met || index == 5) << "a failure went unreported";
      } else {
        ASSERT_TRUE(met);
        EXPECT_TRUE(IsStorageFailure(status)) << status;
        ASSERT_TRUE(WriteFileAtomically(path, after, 0600).ok());
        ASSERT_EQ(Contents(path), after);
      }
    }
    EXPECT_EQ(index, 7) << "write, sync, close; rename; sync and close of the directory; none";
  }
}

TEST(FilesTest, AFullDiskGetsItsRoomBack) {
  const TemporaryDirectory directory;
  for (const int error : {ENOSPC, EDQUOT, EFBIG}) {
    faults::FailWrites(error);
    const absl::Status status = WriteFileAtomically(directory / "file", "text", 0600);
    faults::Stop();
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_TRUE(IsStorageFailure(status));
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  }
}

TEST(FilesTest, TellsTheStoragesTroubleFromTheCallers) {
  const TemporaryDirectory directory;
  for (const int error : {EIO, EROFS}) {
    faults::FailWrites(error);
    const absl::Status status = WriteFileAtomically(directory / "file", "text", 0600);
    faults::Stop();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(IsStorageFailure(status));
  }
  const absl::Status missing = File::Open(directory / "ghost", O_RDONLY).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_FALSE(IsStorageFailure(missing));
  EXPECT_FALSE(IsStorageFailure(absl::OkStatus()));
  EXPECT_FALSE(IsStorageFailure(absl::DataLossError("other bits")));
}

}  // namespace
}  // namespace lockstep
