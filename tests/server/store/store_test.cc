#include "server/store/store.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ElementsAre;
using testing::HasSubstr;

v1::Job MakeJob(const std::string& id) {
  v1::Job job;
  job.set_id(id);
  job.set_state(v1::QUEUED);
  job.mutable_spec()->set_publish_as("m");
  return job;
}

v1::Dataset MakeDataset(const std::string& name, const std::string& digest) {
  v1::Dataset dataset;
  dataset.set_name(name);
  dataset.set_digest(digest);
  return dataset;
}

class StoreTest : public testing::Test {
 protected:
  StoreTest() { Reopen(); }

  void Reopen() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // From a job of its own.
  v1::ModelVersion Publish(const std::string& name, const std::string& job_id) {
    v1::Job job = MakeJob(job_id);
    EXPECT_TRUE(store_->InsertJob(job).ok());
    job.set_state(v1::SUCCEEDED);
    v1::ModelVersion version;
    version.set_name(name);
    EXPECT_TRUE(store_->PublishModel(version, job).ok());
    EXPECT_EQ(job.published().version(), version.version());
    return version;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "lockstep.db";
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, HasEverythingAfterReopening) {
  const v1::Job job = MakeJob("j");
  ASSERT_TRUE(store_->InsertJob(job).ok());
  const v1::ModelVersion version = Publish("m", "k");
  ASSERT_TRUE(store_->InsertDataset(MakeDataset("d", "digest")).ok());
  Reopen();
  EXPECT_TRUE(MessageDifferencer::Equals(*store_->GetJob("j"), job));
  EXPECT_EQ(store_->GetJob("k")->state(), v1::SUCCEEDED);
  EXPECT_EQ(store_->GetJob("k")->published().name(), "m");
  EXPECT_TRUE(MessageDifferencer::Equals(*store_->GetModel("m", 1), version));
  EXPECT_EQ(store_->GetDataset("d")->digest(), "digest");
}

TEST_F(StoreTest, ListsJobsNewestFirst) {
  for (const char* id : {"b", "a", "c"}) ASSERT_TRUE(store_->InsertJob(MakeJob(id)).ok());
  ASSERT_TRUE(store_->UpdateJob(MakeJob("b")).ok());  // changes no place
  const std::vector<v1::Job> jobs = *store_->ListJobs();
  std::vector<std::string> ids;
  for (const v1::Job& job : jobs) ids.push_back(job.id());
  EXPECT_THAT(ids, ElementsAre("c", "a", "b"));
}

TEST_F(StoreTest, KeepsJobIdsUnique) {
  v1::Job job = MakeJob("j");
  ASSERT_TRUE(store_->InsertJob(job).ok());
  job.set_state(v1::RUNNING);
  const absl::Status status = store_->InsertJob(job);
  EXPECT_TRUE(absl::IsAlreadyExists(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("j"));
  EXPECT_EQ(store_->GetJob("j")->state(), v1::QUEUED);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  EXPECT_EQ(store_->GetJob("j")->state(), v1::RUNNING);
}

TEST_F(StoreTest, NamesWhatIsNotThere) {
  EXPECT_THAT(std::string(store_->GetJob("ghost").status().message()), HasSubstr("ghost"));
  EXPECT_TRUE(absl::IsNotFound(store_->GetJob("ghost").status()));
  EXPECT_TRUE(absl::IsNotFound(store_->UpdateJob(MakeJob("ghost"))));
  EXPECT_TRUE(absl::IsNotFound(store_->GetModel("ghost", 0).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->GetModel("ghost", 3).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->GetDataset("ghost").status()));
  EXPECT_TRUE(store_->ListModelVersions("ghost")->empty());
  // A client's text is data, never SQL.
  EXPECT_TRUE(absl::IsNotFound(store_->GetJob("' OR 1 = 1 --").status()));
}

TEST_F(StoreTest, NumbersModelVersions) {
  EXPECT_EQ(Publish("m", "1").version(), 1);
  EXPECT_EQ(Publish("m", "2").version(), 2);
  EXPECT_EQ(Publish("a", "3").version(), 1);
  EXPECT_EQ(store_->GetModel("m", 0)->version(), 2);
  EXPECT_EQ(store_->GetModel("m", 1)->version(), 1);
  EXPECT_THAT(*store_->ListModelVersions("m"), ElementsAre(1, 2));
  const std::vector<v1::ModelVersion> models = *store_->ListModels();
  std::vector<std::string> newest;
  for (const v1::ModelVersion& model : models) {
    newest.push_back(model.name() + ":" + std::to_string(model.version()));
  }
  EXPECT_THAT(newest, ElementsAre("a:1", "m:2"));
}

// A version and its job's success are one fact.
TEST_F(StoreTest, PublishesBothOrNeither) {
  v1::Job job = MakeJob("ghost");
  v1::ModelVersion version;
  version.set_name("m");
  EXPECT_FALSE(store_->PublishModel(version, job).ok());
  EXPECT_TRUE(store_->ListModels()->empty());
  EXPECT_EQ(Publish("m", "j").version(), 1) << "the transaction has ended";
}

TEST_F(StoreTest, ADatasetNameStandsForOneDigest) {
  v1::Dataset dataset = MakeDataset("d", "1");
  dataset.mutable_create_time()->set_seconds(7);
  ASSERT_TRUE(store_->InsertDataset(dataset).ok());
  dataset.mutable_create_time()->set_seconds(8);
  EXPECT_EQ(store_->InsertDataset(dataset)->create_time().seconds(), 7);
  EXPECT_TRUE(absl::IsAlreadyExists(store_->InsertDataset(MakeDataset("d", "2")).status()));
  EXPECT_EQ(store_->ListDatasets()->size(), 1u);
}

TEST_F(StoreTest, RefusesAFileOfANewerServer) {
  store_.reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA user_version = 1000", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  const absl::Status status = Store::Open(path_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("newer"));
}

TEST_F(StoreTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(directory_ / "garbage") << std::string(4096, 'x');
  EXPECT_FALSE(Store::Open(directory_ / "garbage").ok());
  EXPECT_FALSE(Store::Open(directory_ / "no/such/directory.db").ok());
}

}  // namespace
}  // namespace lockstep
