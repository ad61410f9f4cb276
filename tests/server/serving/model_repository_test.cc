#include "server/serving/model_repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "tests/server/serving/puppets.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Handle = ModelRepository::Handle;

// One call of Find and what came of it.
class Search {
 public:
  Search(ModelRepository& repository, const std::string& name, int64_t version) {
    repository.Find(name, version, [this](absl::StatusOr<Handle> model) {
      model_ = std::move(model);
      found_.Notify();
    });
  }
  bool ended() const { return found_.HasBeenNotified(); }
  absl::StatusOr<Handle> result() {
    found_.WaitForNotification();
    return std::move(model_);
  }

 private:
  absl::StatusOr<Handle> model_ = absl::UnknownError("not found yet");
  absl::Notification found_;
};

class ModelRepositoryTest : public ::testing::Test {
 protected:
  void Start(ModelSource::VersionList versions, ModelRepository::Options options = {}) {
    source_ = std::make_unique<PuppetSource>(std::move(versions));
    Restart(options);
  }
  void Restart(ModelRepository::Options options = {}) {
    repository_.reset();
    absl::StatusOr<std::unique_ptr<ModelRepository>> repository =
        ModelRepository::Start(source_.get(), options);
    ASSERT_TRUE(repository.ok()) << repository.status();
    repository_ = *std::move(repository);
  }
  absl::StatusOr<Handle> Find(const std::string& name, int64_t version = 0) {
    return Search(*repository_, name, version).result();
  }
  // The version that a search ends with; the handle is dropped.
  int64_t VersionFound(const std::string& name, int64_t version = 0) {
    absl::StatusOr<Handle> model = Find(name, version);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? (*model)->record.version() : -1;
  }

  std::unique_ptr<PuppetSource> source_;
  std::unique_ptr<ModelRepository> repository_;
};

TEST_F(ModelRepositoryTest, LoadsTheNewestOfEachAtStartAndOthersOnFirstUse) {
  Start({{"a", {1, 2, 10}}, {"b", {1}}});
  EXPECT_EQ(VersionFound("b"), 1);
  EXPECT_EQ(VersionFound("a"), 10);
  EXPECT_THAT(source_->Loads(), ElementsAre("a:10", "b:1"));
  EXPECT_EQ(VersionFound("a", 2), 2);
  EXPECT_EQ(VersionFound("a", 2), 2);
  EXPECT_THAT(source_->Loads(), ElementsAre("a:10", "b:1", "a:2"));
  EXPECT_THAT(repository_->Versions("a"), ElementsAre(1, 2, 10));
  EXPECT_THAT(repository_->Versions("c"), IsEmpty());
}

TEST_F(ModelRepositoryTest, IsReadyOnceEveryNewestVersionIsInMemory) {
  Start({});
  EXPECT_TRUE(repository_->Ready()) << "nothing to load";
  source_->turnstile.Close();
  repository_->Published("a", 1);
  EXPECT_FALSE(repository_->Ready());
  source_->turnstile.Open();
  EXPECT_EQ(VersionFound("a"), 1);
  EXPECT_TRUE(repository_->Ready());
}

TEST_F(ModelRepositoryTest, AFindWaitsForTheLoadWithoutHoldingItsCaller) {
  Start({{"a", {1}}});
  source_->turnstile.Close();
  repository_->Published("a", 2);
  Search newest(*repository_, "a", 0), second(*repository_, "a", 2), older(*repository_, "a", 1);
  EXPECT_FALSE(newest.ended()) << "the newest is what was published, not what is loaded";
  EXPECT_FALSE(second.ended());
  source_->turnstile.Open();
  EXPECT_EQ((*newest.result())->record.version(), 2);
  EXPECT_EQ((*second.result())->record.version(), 2);
  EXPECT_EQ((*older.result())->record.version(), 1);
  repository_->Published("a", 2);
  EXPECT_EQ(VersionFound("a", 1), 1);
  EXPECT_THAT(source_->Loads(), ElementsAre("a:1", "a:2")) << "each once";
}

TEST_F(ModelRepositoryTest, NamesWhatIsNotThere) {
  Start({{"a", {1}}});
  const absl::Status model = Find("b").status();
  EXPECT_EQ(model.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(model.message()), HasSubstr("'b' is not found"));
  const absl::Status version = Find("a", 7).status();
  EXPECT_EQ(version.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(version.message()), HasSubstr("'a' version 7 is not found"));
  EXPECT_LT(Find(std::string(1 << 20, 'x')).status().message().size(), 300)
      << "a status has to fit into headers";
}

TEST_F(ModelRepositoryTest, AFailedLoadSaysWhyAndIsTriedAgain) {
  Start({{"a", {1}}});
  source_->Break("a:2", absl::DataLossError("weights are damaged"));
  repository_->Published("a", 2);
  const absl::Status status = Find("a").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("'a' version 2 is not at ready state"),
                                                   HasSubstr("weights are damaged")));
  EXPECT_FALSE(repository_->Ready());
  EXPECT_EQ(VersionFound("a", 1), 1) << "the others are served";
  source_->Break("a:2", absl::OkStatus());
  EXPECT_EQ(VersionFound("a"), 2);
  EXPECT_TRUE(repository_->Ready());
}

TEST_F(ModelRepositoryTest, BoundsThoseWhoWaitForALoad) {
  Start({{"a", {1}}});
  Restart({.batcher = {.max_queued_requests = 2}});
  EXPECT_EQ(VersionFound("a"), 1);
  source_->turnstile.Close();
  repository_->Published("a", 2);
  Search first(*repository_, "a", 0), second(*repository_, "a", 0), third(*repository_, "a", 0);
  ASSERT_TRUE(third.ended());
  EXPECT_EQ(third.result().status().code(), absl::StatusCode::kResourceExhausted);
  source_->turnstile.Open();
  EXPECT_TRUE(first.result().ok());
  EXPECT_TRUE(second.result().ok());
}

TEST_F(ModelRepositoryTest, OldVersionsLeaveInTheOrderOfTheirLastUse) {
  Start({{"a", {1, 2, 3, 4}}}, {.batcher = {}, .max_older_versions = 2});
  for (int64_t version : {4, 1, 2, 1, 3}) EXPECT_EQ(VersionFound("a", version), version);
  EXPECT_THAT(source_->Loads(), ElementsAre("a:4", "a:1", "a:2", "a:3")) << "3 pushed 2 out";
  EXPECT_EQ(VersionFound("a", 1), 1);
  EXPECT_EQ(source_->Loads().size(), 4);
  EXPECT_EQ(VersionFound("a", 2), 2);
  EXPECT_EQ(source_->Loads().size(), 5);
  EXPECT_EQ(VersionFound("a", 4), 4) << "the newest never leaves";
  EXPECT_EQ(source_->Loads().size(), 5);
}

TEST_F(ModelRepositoryTest, AVersionThatLeavesStaysForThoseWhoHoldIt) {
  Start({{"a", {1, 2, 3}}}, {.batcher = {}, .max_older_versions = 1});
  absl::StatusOr<Handle> held = Find("a", 1);
  EXPECT_EQ(VersionFound("a", 2), 2);
  EXPECT_EQ(source_->strings.Networks(), 3);
  absl::Notification done;
  const std::vector<float> x = {5, 2};
  std::vector<float> y;
  (*held)->batcher->Submit({.samples = 1,
                            .x = {std::as_bytes(std::span(x))},
                            .wanted = [] { return absl::OkStatus(); },
                            .done =
                                [&](Batcher::Answer answer) {
                                  y = *std::move(answer);
                                  done.Notify();
                                }});
  done.WaitForNotification();
  EXPECT_THAT(y, ElementsAre(7, 3, 1));
  held->reset();
  repository_.reset();
  EXPECT_EQ(source_->strings.Networks(), 0) << "and is gone in the end";
}

// The batch thread may be the last to hold a model: it must not wait for its own end.
TEST_F(ModelRepositoryTest, TheLastRequestOfAnEvictedVersionEndsIt) {
  Start({{"a", {1, 2, 3}}}, {.batcher = {}, .max_older_versions = 1});
  absl::StatusOr<Handle> held = Find("a", 1);
  source_->strings.turnstile.Close();
  const std::vector<float> x = {5, 2};
  absl::Notification done;
  Batcher& batcher = *(*held)->batcher;
  batcher.Submit({.samples = 1,
                  .x = {std::as_bytes(std::span(x))},
                  .wanted = [] { return absl::OkStatus(); },
                  .done = [&, model = *std::move(held)](Batcher::Answer) { done.Notify(); }});
  source_->strings.turnstile.AwaitArrival();
  EXPECT_EQ(VersionFound("a", 2), 2);
  EXPECT_EQ(source_->strings.Networks(), 3);
  source_->strings.turnstile.Open();
  done.WaitForNotification();
  repository_.reset();
  EXPECT_EQ(source_->strings.Networks(), 0);
}

TEST_F(ModelRepositoryTest, TheEndAnswersThoseWhoWaitForALoad) {
  Start({{"a", {1}}});
  source_->turnstile.Close();
  repository_->Published("a", 2);
  int64_t version = 0;
  repository_->Find("a", 2,
                    [&](absl::StatusOr<Handle> model) { version = (*model)->record.version(); });
  source_->turnstile.Open();
  repository_.reset();
  EXPECT_EQ(version, 2);
}

}  // namespace
}  // namespace lockstep
