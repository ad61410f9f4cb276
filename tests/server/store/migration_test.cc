// Files of earlier versions become files of this one.
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>
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

using google::protobuf::util::MessageDifferencer;
using testing::ElementsAre;

constexpr const char* kVersion1 = R"sql(
  CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL
  ) STRICT;
  CREATE TABLE models (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    record BLOB NOT NULL,
    PRIMARY KEY (name, version)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE datasets (
    name TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    record BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;
  PRAGMA user_version = 1;
  PRAGMA journal_mode = WAL;
)sql";

v1::Job MakeJob(const std::string& id, v1::JobState state, int64_t end_seconds) {
  v1::Job job;
  job.set_id(id);
  job.set_state(state);
  job.set_fingerprint("f");
  job.mutable_spec()->set_publish_as("m");
  job.mutable_spec()->mutable_initial_weights()->mutable_safetensors()->set_sha256("from " + id);
  if (end_seconds != 0) job.mutable_end_time()->set_seconds(end_seconds);
  return job;
}

class MigrationTest : public testing::Test {
 protected:
  MigrationTest() {
    absl::StatusOr<Database> database = Database::Open(old_path_);
    EXPECT_TRUE(database.ok());
    EXPECT_TRUE(database->Execute(kVersion1).ok());
    auto job = database->Prepare("INSERT INTO jobs (sequence, id, record) VALUES (?1, ?2, ?3)");
    int64_t sequence = 3;  // an order of its own, with a hole
    for (const v1::Job& record : {succeeded_, failed_, running_, queued_}) {
      job->Bind(1, sequence++).Bind(2, record.id()).BindBlob(3, record.SerializeAsString());
      EXPECT_TRUE(job->Run().ok());
    }
    version_.set_name("m");
    version_.set_version(1);
    version_.mutable_weights()->set_sha256("weights");
    auto model = database->Prepare("INSERT INTO models VALUES ('m', 1, 'succeeded', ?1)");
    EXPECT_TRUE(model->BindBlob(1, version_.SerializeAsString()).Run().ok());
    dataset_.set_name("d");
    for (const char* sha256 : {"x", "y", "x"}) {
      dataset_.add_tensors()->mutable_blob()->set_sha256(sha256);
    }
    auto dataset = database->Prepare("INSERT INTO datasets VALUES ('d', '', ?1)");
    EXPECT_TRUE(dataset->BindBlob(1, dataset_.SerializeAsString()).Run().ok());
  }

  void ExpectAll(Store& store) {
    const JobPage page = *store.ListJobs({}, 0, 10);
    ASSERT_EQ(page.jobs.size(), 4u);
    EXPECT_TRUE(MessageDifferencer::Equals(page.jobs[0], queued_));
    EXPECT_TRUE(MessageDifferencer::Equals(page.jobs[3], succeeded_));
    EXPECT_EQ(store.ListJobs({{v1::RUNNING}, {}}, 0, 10)->jobs[0].id(), "running");
    EXPECT_EQ(store.ListUnfinishedJobs()->front().id(), "running");
    EXPECT_EQ(store.ListUnfinishedJobs()->size(), 2u);
    EXPECT_EQ(store.FindSucceeded("f", "m")->id(), "succeeded");
    EXPECT_THAT(*store.ListExpiredJobs(absl::FromUnixSeconds(1000), 0), ElementsAre("failed"));
    for (const char* sha256 : {"weights", "x", "y", "from running", "from queued"}) {
      EXPECT_TRUE(*store.IsBlobUsed(sha256)) << sha256;
    }
    EXPECT_FALSE(*store.IsBlobUsed("from failed"));
    EXPECT_TRUE(MessageDifferencer::Equals(*store.GetModel("m", 0), version_));
    EXPECT_TRUE(MessageDifferencer::Equals(*store.GetDataset("d"), dataset_));
  }

  TemporaryDirectory directory_;
  const std::string old_path_ = directory_ / "old.db";
  const v1::Job succeeded_ = MakeJob("succeeded", v1::SUCCEEDED, 2000);
  const v1::Job failed_ = MakeJob("failed", v1::FAILED, 999);
  const v1::Job running_ = MakeJob("running", v1::RUNNING, 0);
  const v1::Job queued_ = MakeJob("queued", v1::QUEUED, 0);
  v1::ModelVersion version_;
  v1::Dataset dataset_;
};

TEST_F(MigrationTest, AFileOfVersion1HasEverythingAfterwards) {
  for (const char* opening : {"first", "second"}) {
    SCOPED_TRACE(opening);
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(old_path_);
    ASSERT_TRUE(store.ok()) << store.status();
    ExpectAll(**store);
  }
  std::unique_ptr<Store> store = *Store::Open(old_path_);
  EXPECT_TRUE(store->DeleteJob("succeeded").ok()) << "its model was in the way before";
  EXPECT_TRUE(store->GetModel("m", 1).ok());
}

// Whatever fails once on the way: the file opens the next time, with everything.
TEST_F(MigrationTest, AnyFailureLeavesAFileThatCanBeMigrated) {
  const std::string path = directory_ / "lockstep.db";
  for (const faults::Kind kind :
       {faults::Kind::kError, faults::Kind::kCutShort, faults::Kind::kErrorAfter}) {
    int failures = 0;
    for (int index = 0;; ++index) {
      SCOPED_TRACE(absl::StrCat("operation ", index, " kind ", static_cast<int>(kind)));
      for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
      std::filesystem::copy_file(old_path_, path);
      faults::FailOnce(index, kind);
      const absl::Status status = Store::Open(path).status();
      if (!faults::Stop()) break;
      failures += !status.ok();
      EXPECT_TRUE(status.ok() || IsStorageFailure(status)) << status;
      absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path);
      ASSERT_TRUE(store.ok()) << store.status();
      ExpectAll(**store);
    }
    EXPECT_GT(failures, 3);
  }
}

}  // namespace
}  // namespace lockstep
