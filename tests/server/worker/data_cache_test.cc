#include "server/worker/data_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/data/digest.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

class DataCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    blob_.set_sha256(Sha256(content_));
    blob_.set_size_bytes(static_cast<int64_t>(content_.size()));
  }

  // Serves the content, or as much of it as `limit_`, in two pieces; counts calls.
  absl::StatusOr<MappedFile> Get() {
    return cache_.Get(
        blob_,
        [this](const std::string& sha256, int64_t offset, DataCache::Sink sink) -> absl::Status {
          EXPECT_EQ(sha256, blob_.sha256());
          offsets_.push_back(offset);
          const std::string rest = content_.substr(offset, limit_ - offset);
          const size_t half = rest.size() / 2;
          if (absl::Status status = sink(rest.substr(0, half)); !status.ok()) return status;
          if (absl::Status status = sink(rest.substr(half)); !status.ok()) return status;
          return limit_ < content_.size() ? absl::UnavailableError("cut off") : absl::OkStatus();
        });
  }
  static std::string Text(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

  TemporaryDirectory directory_;
  DataCache cache_ = *DataCache::Open(directory_ / "cache");
  std::string content_ = std::string(100'000, 'a') + "end";
  size_t limit_ = content_.size();
  v1::Blob blob_;
  std::vector<int64_t> offsets_;
};

TEST_F(DataCacheTest, FetchesOnceThenMapsTheCopy) {
  EXPECT_EQ(Text(*Get()), content_);
  EXPECT_EQ(Text(*Get()), content_);
  EXPECT_THAT(offsets_, testing::ElementsAre(0));
}

TEST_F(DataCacheTest, AFetchThatBreaksGoesOnWhereItStopped) {
  limit_ = 1000;
  EXPECT_TRUE(absl::IsUnavailable(Get().status()));
  limit_ = content_.size();
  EXPECT_EQ(Text(*Get()), content_);
  EXPECT_THAT(offsets_, testing::ElementsAre(0, 1000));
}

TEST_F(DataCacheTest, WrongBytesAreNeverHandedOut) {
  content_[5] = 'b';  // not what the digest says
  EXPECT_TRUE(absl::IsDataLoss(Get().status()));
  content_[5] = 'a';
  EXPECT_EQ(Text(*Get()), content_) << "and the wrong ones are forgotten";
  EXPECT_THAT(offsets_, testing::ElementsAre(0, 0));
}

TEST_F(DataCacheTest, ACopyThatWentBadIsFetchedAgain) {
  ASSERT_TRUE(Get().ok());
  std::ofstream(directory_ / "cache/" + blob_.sha256(), std::ios::trunc) << "rubbish";
  EXPECT_EQ(Text(*Get()), content_);
}

// Also when somebody clears the cache meanwhile.
TEST_F(DataCacheTest, WorkersThatShareTheCacheDoNotMixTheirBytes) {
  std::vector<std::thread> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([this] {
      for (int round = 0; round < 20; ++round) {
        absl::StatusOr<MappedFile> file =
            cache_.Get(blob_, [this](const std::string&, int64_t offset, DataCache::Sink sink) {
              return sink(content_.substr(offset));
            });
        ASSERT_TRUE(file.ok()) << file.status();
        EXPECT_EQ(Text(*file), content_);
        std::filesystem::remove(directory_ / "cache/" + blob_.sha256());
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

}  // namespace
}  // namespace lockstep
