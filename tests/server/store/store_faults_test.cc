// The store on a disk that fails or is full.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/store/files.h"
#include "server/store/sqlite.h"
#include "server/store/store.h"
#include "tests/server/store/faults.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

v1::Job MakeJob(const std::string& id) {
  v1::Job job;
  job.set_id(id);
  job.set_state(v1::QUEUED);
  job.mutable_spec()->set_publish_as("m");
  job.mutable_spec()->set_keras_model(std::string(20'000, 'k'));  // some pages
  (*job.mutable_spec()->mutable_labels())["id"] = id;
  job.mutable_spec()->mutable_initial_weights()->mutable_safetensors()->set_sha256("from " + id);
  return job;
}

std::string IntegrityOf(const std::string& path) {
  absl::StatusOr<Database> database = Database::Open(path);
  absl::StatusOr<Statement> check = database->Prepare("PRAGMA integrity_check");
  absl::StatusOr<bool> row = check->Step();
  return row.ok() ? check->Bytes(0) : row.status().ToString();
}

class StoreFaultsTest : public testing::Test {
 protected:
  StoreFaultsTest() { Recreate(); }

  void Recreate() {
    store_.reset();
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
    Reopen();
    EXPECT_TRUE(store_->InsertJob(MakeJob("old")).ok());
  }
  void Reopen() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  absl::Status Publish() {
    v1::Job job = MakeJob("old");
    job.set_state(v1::SUCCEEDED);
    v1::ModelVersion version;
    version.set_name("m");
    version.mutable_weights()->set_sha256("weights");
    const absl::Status status = store_->PublishModel(version, job);
    EXPECT_EQ(version.version(), status.ok() ? 1 : 0) << "a failure changes nothing";
    EXPECT_EQ(job.has_published(), status.ok());
    return status;
  }

  bool HasNewJob() {
    const JobPage page = *store_->ListJobs({{}, {{"id", "new"}}}, 0, 10);
    EXPECT_EQ(store_->GetJob("new").ok(), page.jobs.size() == 1);
    EXPECT_EQ(*store_->IsBlobUsed("from new"), page.jobs.size() == 1);
    return page.jobs.size() == 1;
  }
  bool IsPublished() {
    const bool published = store_->GetModel("m", 1).ok();
    EXPECT_EQ(store_->GetJob("old")->state(), published ? v1::SUCCEEDED : v1::QUEUED);
    EXPECT_EQ(*store_->IsBlobUsed("from old"), !published);
    return published;
  }

  // Has `call`, which `is_done` tells to have been done, meet every single failure there is.
  void Sweep(const std::function<absl::Status()>& call, const std::function<bool()>& is_done) {
    for (const faults::Kind kind :
         {faults::Kind::kError, faults::Kind::kCutShort, faults::Kind::kErrorAfter}) {
      int failures = 0;
      int index = 0;
      for (bool met = true; met; ++index) {
        SCOPED_TRACE(absl::StrCat("operation ", index, " kind ", static_cast<int>(kind)));
        Recreate();
        faults::FailOnce(index, kind);
        const absl::Status status = call();
        met = faults::Stop();
        ASSERT_EQ(is_done(), status.ok());
        if (!status.ok()) {
          ++failures;
          ASSERT_TRUE(met);
          EXPECT_TRUE(absl::IsUnavailable(status)) << status;
          const absl::Status again = call();
          ASSERT_TRUE(again.ok()) << again;
        }
        Reopen();
        EXPECT_TRUE(is_done());
        store_.reset();
        ASSERT_EQ(IntegrityOf(path_), "ok");
      }
      EXPECT_GT(failures, 1) << "a commit writes and syncs";
    }
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "lockstep.db";
  std::unique_ptr<Store> store_;
};

TEST_F(StoreFaultsTest, AnyFailureOfASubmissionIsReportedAndMayBeTriedAgain) {
  Sweep([this] { return store_->InsertJob(MakeJob("new")); }, [this] { return HasNewJob(); });
}

TEST_F(StoreFaultsTest, AnyFailureOfAPublicationIsReportedAndMayBeTriedAgain) {
  Sweep([this] { return Publish(); }, [this] { return IsPublished(); });
}

TEST_F(StoreFaultsTest, AnyFailureOfADeletionIsReportedAndMayBeTriedAgain) {
  const auto is_gone = [this] {
    const bool gone = absl::IsNotFound(store_->GetJob("old").status());
    EXPECT_EQ(*store_->IsBlobUsed("from old"), !gone);
    return gone;
  };
  Sweep([this] { return store_->DeleteJob("old"); }, is_gone);
}

TEST_F(StoreFaultsTest, GoesOnOnceAFullDiskHasRoom) {
  faults::FailWrites(ENOSPC);
  for (int i = 0; i < 3; ++i) {
    for (const absl::Status& status : {store_->InsertJob(MakeJob("new")), Publish()}) {
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_TRUE(IsStorageFailure(status));
    }
    EXPECT_FALSE(HasNewJob()) << "reading goes on";
    EXPECT_FALSE(IsPublished());
  }
  EXPECT_TRUE(faults::Stop());
  ASSERT_TRUE(store_->InsertJob(MakeJob("new")).ok());
  ASSERT_TRUE(Publish().ok());
  Reopen();
  EXPECT_TRUE(HasNewJob());
  EXPECT_TRUE(IsPublished());
  store_.reset();
  EXPECT_EQ(IntegrityOf(path_), "ok");
}

TEST_F(StoreFaultsTest, SomebodyElsesLockPasses) {
  absl::StatusOr<Database> other = Database::Open(path_);
  ASSERT_TRUE(other.ok());
  Transaction backup(*other);
  ASSERT_TRUE(backup.Begin().ok());
  const absl::Status status = store_->InsertJob(MakeJob("new"));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_FALSE(HasNewJob());
  ASSERT_TRUE(backup.Commit().ok());
  EXPECT_TRUE(store_->InsertJob(MakeJob("new")).ok());
}

}  // namespace
}  // namespace lockstep
