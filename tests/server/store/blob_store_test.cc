#include "server/store/blob_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// From FIPS 180-4's examples: SHA-256 of "abc" and of nothing.
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kEmpty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

v1::Blob MakeBlob(const std::string& sha256, int64_t size) {
  v1::Blob blob;
  blob.set_sha256(sha256);
  blob.set_size_bytes(size);
  return blob;
}

class BlobStoreTest : public testing::Test {
 protected:
  BlobStoreTest() { Reopen(); }

  void Reopen() {
    blobs_.reset();
    blobs_ = *BlobStore::Open(directory_ / "blobs");
  }

  std::unique_ptr<BlobStore::Writer> Write(const v1::Blob& blob) {
    absl::StatusOr<std::unique_ptr<BlobStore::Writer>> writer = blobs_->Write(blob);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return *std::move(writer);
  }

  std::string PartialPath(const std::string& sha256) {
    return directory_ / "blobs/partial/" + sha256;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<BlobStore> blobs_;
  const v1::Blob abc_ = MakeBlob(kAbc, 3);
};

TEST_F(BlobStoreTest, GivesBackWhatItTook) {
  EXPECT_FALSE(blobs_->Stat(abc_)->complete());
  EXPECT_TRUE(absl::IsNotFound(blobs_->Read(kAbc).status()));
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("a").ok());
  EXPECT_TRUE(absl::IsNotFound(blobs_->Read(kAbc).status())) << "not before it is whole";
  ASSERT_TRUE(writer->Append("bc").ok());
  ASSERT_TRUE(writer->Commit().ok());
  writer.reset();
  Reopen();
  EXPECT_TRUE(blobs_->Stat(abc_)->complete());
  EXPECT_EQ(*blobs_->ReadAll(kAbc), "abc");
  EXPECT_EQ(*(*blobs_->Read(kAbc))->Read(1, 100), "bc");
  EXPECT_TRUE(absl::IsAlreadyExists(blobs_->Write(abc_).status()));
  EXPECT_FALSE(fs::exists(PartialPath(kAbc)));
}

TEST_F(BlobStoreTest, TakesAnEmptyBlob) {
  ASSERT_TRUE(Write(MakeBlob(kEmpty, 0))->Commit().ok());
  EXPECT_EQ(*blobs_->ReadAll(kEmpty), "");
}

TEST_F(BlobStoreTest, ResumesAnUploadAlsoOfAnEarlierServer) {
  ASSERT_TRUE(Write(abc_)->Append("ab").ok());
  EXPECT_EQ(blobs_->Stat(abc_)->received_bytes(), 2);
  Reopen();
  auto writer = Write(abc_);
  EXPECT_EQ(writer->offset(), 2);
  ASSERT_TRUE(writer->Append("c").ok());
  EXPECT_TRUE(writer->Commit().ok());
}

TEST_F(BlobStoreTest, RefusesAWrongDigestAndForgetsTheBytes) {
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("abd").ok());
  EXPECT_TRUE(absl::IsDataLoss(writer->Commit()));
  writer.reset();
  EXPECT_EQ(blobs_->Stat(abc_)->received_bytes(), 0);
  EXPECT_TRUE(absl::IsNotFound(blobs_->Read(kAbc).status()));
}

// A crash may leave other bytes in an upload than those that were sent.
TEST_F(BlobStoreTest, FindsATornUploadWhenItIsResumed) {
  ASSERT_TRUE(Write(abc_)->Append("ab").ok());
  std::ofstream(PartialPath(kAbc), std::ios::binary) << std::string("a\0", 2);
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("c").ok());
  EXPECT_TRUE(absl::IsDataLoss(writer->Commit()));
}

TEST_F(BlobStoreTest, KeepsAnIncompleteUpload) {
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("ab").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(writer->Commit()));
  writer.reset();
  EXPECT_EQ(blobs_->Stat(abc_)->received_bytes(), 2);
}

TEST_F(BlobStoreTest, RefusesMoreThanWasAnnounced) {
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("ab").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(writer->Append("cd")));
  EXPECT_EQ(writer->offset(), 2);
  ASSERT_TRUE(writer->Append("c").ok());
  EXPECT_TRUE(writer->Commit().ok());
}

TEST_F(BlobStoreTest, StartsAgainWhenAnotherSizeWasAnnounced) {
  ASSERT_TRUE(Write(MakeBlob(kAbc, 1000))->Append("something else").ok());
  EXPECT_EQ(blobs_->Stat(abc_)->received_bytes(), 0);
  auto writer = Write(abc_);
  EXPECT_EQ(writer->offset(), 0);
  ASSERT_TRUE(writer->Append("abc").ok());
  EXPECT_TRUE(writer->Commit().ok());
}

TEST_F(BlobStoreTest, HasOneWriterForABlob) {
  auto writer = Write(abc_);
  EXPECT_TRUE(absl::IsAborted(blobs_->Write(abc_).status()));
  writer.reset();
  EXPECT_TRUE(blobs_->Write(abc_).ok());
}

// Digests become paths: whatever a stranger sends as one must not leave the directory.
TEST_F(BlobStoreTest, RefusesNamesThatAreNoDigests) {
  const std::string digest = kAbc;
  const std::string hostile[] = {
      "",
      "..",
      "../../../../etc/passwd",
      "/etc/passwd",
      "partial",
      digest.substr(1),
      digest + "0",
      "../" + digest.substr(3),
      "B" + digest.substr(1),
      digest.substr(0, 32) + '\0' + digest.substr(33),
      std::string(100'000, 'a'),
  };
  for (const std::string& name : hostile) {
    const v1::Blob blob = MakeBlob(name, 3);
    EXPECT_TRUE(absl::IsInvalidArgument(blobs_->Stat(blob).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(blobs_->Write(blob).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(blobs_->Read(name).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(blobs_->Delete(name))) << name;
    EXPECT_LT(blobs_->Stat(blob).status().message().size(), 500u);
  }
  EXPECT_TRUE(absl::IsInvalidArgument(blobs_->Write(MakeBlob(kAbc, -1)).status()));
}

TEST_F(BlobStoreTest, DropsUploadsThatNobodyCameBackFor) {
  ASSERT_TRUE(Write(abc_)->Append("ab").ok());
  const v1::Blob other = MakeBlob(kEmpty, 5);
  auto busy = Write(other);
  ASSERT_TRUE(busy->Append("busy").ok());
  const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(2);
  fs::last_write_time(PartialPath(kAbc), long_ago);
  fs::last_write_time(PartialPath(kEmpty), long_ago);
  Write(MakeBlob(std::string(64, '0'), 1)).reset();  // a new upload sweeps
  EXPECT_FALSE(fs::exists(PartialPath(kAbc)));
  EXPECT_TRUE(fs::exists(PartialPath(kEmpty))) << "somebody is writing it";
  EXPECT_EQ(Write(abc_)->offset(), 0);
}

TEST_F(BlobStoreTest, ReadersOutliveTheBlob) {
  auto writer = Write(abc_);
  ASSERT_TRUE(writer->Append("abc").ok());
  ASSERT_TRUE(writer->Commit().ok());
  auto reader = *blobs_->Read(kAbc);
  ASSERT_TRUE(blobs_->Delete(kAbc).ok());
  EXPECT_EQ(*reader->Read(0, 3), "abc");
  EXPECT_TRUE(absl::IsNotFound(blobs_->Read(kAbc).status()));
  EXPECT_TRUE(blobs_->Delete(kAbc).ok()) << "gone is gone";
}

}  // namespace
}  // namespace lockstep
