#include "server/store/store.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "server/store/sqlite.h"
#include "tests/server/store/faults.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

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
  const std::vector<v1::Job> jobs = store_->ListJobs({}, 0, 10)->jobs;
  std::vector<std::string> ids;
  for (const v1::Job& job : jobs) ids.push_back(job.id());
  EXPECT_THAT(ids, ElementsAre("c", "a", "b"));
}

v1::Job MakeLabelled(const std::string& id, v1::JobState state, const std::string& team,
                     const std::string& stage) {
  v1::Job job = MakeJob(id);
  job.set_state(state);
  (*job.mutable_spec()->mutable_labels())["team"] = team;
  (*job.mutable_spec()->mutable_labels())["stage"] = stage;
  return job;
}

// Through pages of every size the same jobs come in the same order.
TEST_F(StoreTest, FiltersAndPagesJobs) {
  for (const v1::Job& job :
       {MakeLabelled("1", v1::QUEUED, "a", "x"), MakeLabelled("2", v1::RUNNING, "a", "y"),
        MakeLabelled("3", v1::PAUSED, "b", "x"), MakeLabelled("4", v1::QUEUED, "a", "x"),
        MakeLabelled("5", v1::QUEUED, "b", "y"), MakeLabelled("6", v1::RUNNING, "a", "x")}) {
    ASSERT_TRUE(store_->InsertJob(job).ok());
  }
  ASSERT_TRUE(store_->UpdateJob(MakeLabelled("4", v1::PAUSED, "a", "x")).ok());
  const struct {
    JobFilter filter;
    std::vector<std::string> ids;
  } cases[] = {
      {{}, {"6", "5", "4", "3", "2", "1"}},
      {{{v1::RUNNING, v1::QUEUED, v1::RUNNING}, {}}, {"6", "5", "2", "1"}},
      {{{v1::PAUSED}, {}}, {"4", "3"}},
      {{{v1::FAILED}, {}}, {}},
      {{{}, {{"team", "a"}}}, {"6", "4", "2", "1"}},
      {{{}, {{"team", "a"}, {"stage", "x"}}}, {"6", "4", "1"}},
      {{{v1::RUNNING, v1::PAUSED}, {{"team", "a"}, {"stage", "x"}}}, {"6", "4"}},
      {{{}, {{"team", "x"}}}, {}},
      {{{}, {{"team", "a"}, {"no such", ""}}}, {}},
  };
  for (const auto& c : cases) {
    for (int limit = 1; limit <= 7; ++limit) {
      std::vector<std::string> ids;
      int64_t below = 0;
      do {
        const JobPage page = *store_->ListJobs(c.filter, below, limit);
        ASSERT_LE(page.jobs.size(), static_cast<size_t>(limit));
        ASSERT_TRUE(page.next == 0 || !page.jobs.empty());
        for (const v1::Job& job : page.jobs) ids.push_back(job.id());
        below = page.next;
      } while (below != 0);
      EXPECT_EQ(ids, c.ids) << "pages of " << limit;
    }
  }
}

TEST_F(StoreTest, APageGoesOnWhereTheOneBeforeEndedWhateverComesOrGoes) {
  for (const char* id : {"1", "2", "3", "4"}) ASSERT_TRUE(store_->InsertJob(MakeJob(id)).ok());
  const JobPage first = *store_->ListJobs({}, 0, 2);
  ASSERT_TRUE(store_->DeleteJob("3").ok());  // the last of that page
  ASSERT_TRUE(store_->InsertJob(MakeJob("5")).ok());
  const JobPage second = *store_->ListJobs({}, first.next, 2);
  ASSERT_EQ(second.jobs.size(), 2u);
  EXPECT_EQ(second.jobs[0].id(), "2");
  EXPECT_EQ(second.next, 0);
}

v1::Job MakeEnded(const std::string& id, v1::JobState state, int64_t end_seconds) {
  v1::Job job = MakeJob(id);
  job.set_state(state);
  job.mutable_end_time()->set_seconds(end_seconds);
  return job;
}

TEST_F(StoreTest, UnfinishedJobsComeInTheOrderOfTheirSubmission) {
  for (const char* id : {"c", "b", "a"}) ASSERT_TRUE(store_->InsertJob(MakeJob(id)).ok());
  v1::Job paused = MakeJob("c");
  paused.set_state(v1::PAUSED);
  ASSERT_TRUE(store_->UpdateJob(paused).ok());
  ASSERT_TRUE(store_->UpdateJob(MakeEnded("b", v1::CANCELLED, 0)).ok());
  const std::vector<v1::Job> jobs = *store_->ListUnfinishedJobs();
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id(), "c");
  EXPECT_EQ(jobs[1].id(), "a");
}

TEST_F(StoreTest, FindsTheNewestResultOfAFingerprint) {
  const auto insert = [this](const std::string& id, v1::JobState state, const char* publish_as) {
    v1::Job job = MakeJob(id);
    job.set_state(state);
    job.set_fingerprint("f");
    job.mutable_spec()->set_publish_as(publish_as);
    if (id == "verification") job.mutable_spec()->mutable_verification();
    ASSERT_TRUE(store_->InsertJob(job).ok());
  };
  insert("1", v1::SUCCEEDED, "m");
  insert("2", v1::SUCCEEDED, "m");
  insert("3", v1::SUCCEEDED, "n");
  insert("4", v1::FAILED, "m");
  insert("5", v1::RUNNING, "m");
  insert("verification", v1::SUCCEEDED, "m");
  EXPECT_EQ(store_->FindSucceeded("f", "m")->id(), "2");
  EXPECT_EQ(store_->FindSucceeded("f", "")->id(), "3");
  EXPECT_TRUE(absl::IsNotFound(store_->FindSucceeded("f", "o").status()));
  EXPECT_TRUE(absl::IsNotFound(store_->FindSucceeded("g", "").status()));
}

TEST_F(StoreTest, AJobThatIsDeletedTakesAllButItsModelAlong) {
  v1::Job job = MakeLabelled("j", v1::SUCCEEDED, "a", "x");
  ASSERT_TRUE(store_->InsertJob(job).ok());
  v1::ModelVersion version;
  version.set_name("m");
  ASSERT_TRUE(store_->PublishModel(version, job).ok());
  v1::Checkpoint checkpoint;
  checkpoint.mutable_blob()->set_sha256("c");
  ASSERT_TRUE(store_->InsertCheckpoint("j", checkpoint).ok());

  ASSERT_TRUE(store_->DeleteJob("j").ok());
  EXPECT_TRUE(absl::IsNotFound(store_->DeleteJob("j")));
  EXPECT_TRUE(absl::IsNotFound(store_->GetJob("j").status()));
  EXPECT_TRUE(store_->ListJobs({{}, {{"team", "a"}}}, 0, 10)->jobs.empty());
  EXPECT_TRUE(store_->ListCheckpoints("j")->empty());
  EXPECT_FALSE(*store_->IsBlobUsed("c"));
  EXPECT_TRUE(store_->GetModel("m", 1).ok());
  EXPECT_TRUE(store_->InsertJob(MakeJob("j")).ok()) << "the id is free again";
}

TEST_F(StoreTest, ListsJobsThatARetentionPolicyLetsGo) {
  for (const v1::Job& job : {MakeEnded("5", v1::FAILED, 50), MakeEnded("2", v1::SUCCEEDED, 20),
                             MakeEnded("4", v1::CANCELLED, 40), MakeEnded("1", v1::SUCCEEDED, 10),
                             MakeEnded("3", v1::SUCCEEDED, 30), MakeJob("queued")}) {
    ASSERT_TRUE(store_->InsertJob(job).ok());
  }
  const auto at = [](int64_t seconds) { return absl::FromUnixSeconds(seconds); };
  EXPECT_THAT(*store_->ListExpiredJobs(at(30), 0), ElementsAre("1", "2"));
  EXPECT_THAT(*store_->ListExpiredJobs(at(30) + absl::Microseconds(1), 0),
              ElementsAre("1", "2", "3"));
  EXPECT_THAT(*store_->ListExpiredJobs(absl::InfinitePast(), 2), ElementsAre("1", "2", "3"));
  EXPECT_THAT(*store_->ListExpiredJobs(at(30), 2), ElementsAre("1", "2", "3"));
  EXPECT_THAT(*store_->ListExpiredJobs(at(30), 4), ElementsAre("1", "2"));
  EXPECT_THAT(*store_->ListExpiredJobs(absl::InfinitePast(), 0), ElementsAre());
  EXPECT_THAT(*store_->ListExpiredJobs(absl::InfiniteFuture(), 5),
              ElementsAre("1", "2", "3", "4", "5"));
}

TEST_F(StoreTest, KeepsOneCheckpointAStep) {
  ASSERT_TRUE(store_->InsertJob(MakeJob("j")).ok());
  ASSERT_TRUE(store_->InsertJob(MakeJob("k")).ok());
  const auto insert = [this](const std::string& job_id, int64_t step, const char* sha256) {
    v1::Checkpoint checkpoint;
    checkpoint.set_step(step);
    checkpoint.mutable_blob()->set_sha256(sha256);
    return store_->InsertCheckpoint(job_id, checkpoint);
  };
  const auto list = [this] {
    std::vector<std::string> found;
    const std::vector<v1::Checkpoint> checkpoints = *store_->ListCheckpoints("j");
    for (const v1::Checkpoint& checkpoint : checkpoints) {
      found.push_back(std::to_string(checkpoint.step()) + checkpoint.blob().sha256());
    }
    return found;
  };
  ASSERT_TRUE(insert("j", 9, "a").ok());
  ASSERT_TRUE(insert("j", 100, "b").ok());
  ASSERT_TRUE(insert("j", 20, "c").ok());
  ASSERT_TRUE(insert("k", 20, "other").ok());
  ASSERT_TRUE(insert("j", 20, "d").ok());
  EXPECT_TRUE(absl::IsNotFound(insert("ghost", 1, "e")));
  Reopen();
  EXPECT_THAT(list(), ElementsAre("100b", "20d", "9a"));
  EXPECT_FALSE(*store_->IsBlobUsed("c")) << "replaced";
  EXPECT_TRUE(*store_->IsBlobUsed("d"));
  ASSERT_TRUE(store_->DeleteCheckpoint("j", 100).ok());
  EXPECT_TRUE(store_->DeleteCheckpoint("j", 100).ok());
  EXPECT_THAT(list(), ElementsAre("20d", "9a"));
  EXPECT_FALSE(*store_->IsBlobUsed("b"));
}

TEST_F(StoreTest, KnowsWhichBlobsMustStay) {
  v1::Job job = MakeJob("j");
  job.mutable_spec()->mutable_initial_weights()->mutable_safetensors()->set_sha256("weights");
  job.mutable_spec()->mutable_verification()->mutable_checkpoint()->mutable_blob()->set_sha256(
      "checkpoint");
  ASSERT_TRUE(store_->InsertJob(job).ok());
  job.set_state(v1::PAUSED);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  EXPECT_TRUE(*store_->IsBlobUsed("weights"));
  EXPECT_TRUE(*store_->IsBlobUsed("checkpoint"));
  job.set_state(v1::FAILED);
  ASSERT_TRUE(store_->UpdateJob(job).ok());
  EXPECT_FALSE(*store_->IsBlobUsed("weights"));
  EXPECT_FALSE(*store_->IsBlobUsed("checkpoint"));

  v1::Dataset dataset = MakeDataset("d", "digest");
  dataset.add_tensors()->mutable_blob()->set_sha256("zeros");
  dataset.add_tensors()->mutable_blob()->set_sha256("zeros");
  ASSERT_TRUE(store_->InsertDataset(dataset).ok());
  EXPECT_TRUE(*store_->IsBlobUsed("zeros"));

  v1::Job publisher = MakeJob("k");
  ASSERT_TRUE(store_->InsertJob(publisher).ok());
  v1::ModelVersion version;
  version.set_name("m");
  version.mutable_weights()->set_sha256("published");
  ASSERT_TRUE(store_->PublishModel(version, publisher).ok());
  EXPECT_TRUE(*store_->IsBlobUsed("published"));
  EXPECT_FALSE(*store_->IsBlobUsed("ghost"));
  EXPECT_FALSE(*store_->IsBlobUsed(""));
}

// However many jobs there are, a query looks only at those it is about.
TEST_F(StoreTest, NoQueryScansATable) {
  absl::StatusOr<Database> database = Database::Open(path_);
  ASSERT_TRUE(database.ok());
  ASSERT_GT(Store::Statements().size(), 20u);
  for (const std::string sql : Store::Statements()) {
    absl::StatusOr<Statement> plan = database->Prepare("EXPLAIN QUERY PLAN " + sql);
    ASSERT_TRUE(plan.ok()) << plan.status();
    while (*plan->Step()) {
      const std::string line = plan->Bytes(3);
      // These two are what lists all models and data sets, in the order of their key.
      if (line == "SCAN m" || line == "SCAN datasets") continue;
      EXPECT_THAT(line, Not(AnyOf(StartsWith("SCAN"), HasSubstr("TEMP B-TREE")))) << sql;
    }
  }
}

// What makes a job that was accepted survive a power failure.
TEST_F(StoreTest, EveryChangeWaitsForTheDisk) {
  absl::StatusOr<Database> database = Database::Open(path_);
  absl::StatusOr<Statement> mode = database->Prepare("PRAGMA journal_mode");
  ASSERT_TRUE(*mode->Step());
  EXPECT_EQ(mode->Bytes(0), "wal");
  for (const char* id : {"1", "2", "3"}) {
    faults::Watch();
    EXPECT_TRUE(store_->InsertJob(MakeJob(id)).ok());
    faults::Stop();
    EXPECT_GE(faults::Syncs(), 1) << "synchronous = FULL";
  }
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
