// A run that is saved and restored between any two steps ends as if nothing had happened, and no
// file that is not this job's whole checkpoint is taken for one.

#include "core/training/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "core/training/job_run.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

v1::JobSpec With(v1::JobSpec job, const std::string& training) {
  const auto changes = ParseJson<v1::TrainingSpec>(training);
  if (changes.has_optimizer()) job.mutable_training()->clear_optimizer();
  job.mutable_training()->MergeFrom(changes);
  return job;
}

struct Case {
  std::string name;
  v1::JobSpec spec;
  SmallData train;
  std::optional<SmallData> validation;
  std::string initial_weights;
};

// Runs of one job.
class Runs {
 public:
  explicit Runs(Case c)
      : case_(std::move(c)),
        plan_(PlanOrDie(case_.spec, case_.train, case_.validation ? &*case_.validation : nullptr)) {
  }

  const JobPlan& plan() const { return plan_; }

  std::unique_ptr<JobRun> Start(int threads) const {
    while (std::ssize(pools_) < threads) {
      pools_.push_back(std::make_unique<ThreadPool>(std::ssize(pools_) + 1));
    }
    std::optional<LabelledData> validation;
    if (case_.validation) validation = case_.validation->view();
    LabelledData train = case_.train.view();
    if (case_.spec.has_population_statistics()) train.y.clear();
    // All outputs learn the same targets.
    train.y.resize(train.y.empty() ? 0 : plan_.spec.training().losses_size(), case_.train.y);
    auto run = StartJob(plan_, train, validation, pools_[threads - 1].get(), case_.initial_weights);
    EXPECT_TRUE(run.ok()) << run.status();
    return *std::move(run);
  }

  // A new run that goes on where the other is, by way of a file.
  std::unique_ptr<JobRun> GoOn(const JobRun& run, int threads) const {
    const std::string file = WriteCheckpoint(plan_, run.Save(), "");
    const absl::StatusOr<RunSnapshot> snapshot = ReadCheckpoint(plan_, file);
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    EXPECT_EQ(snapshot->StateHash(), run.StateHash());
    std::unique_ptr<JobRun> restored = Start(threads);
    const absl::Status status = restored->Restore(*snapshot);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(restored->step(), run.step());
    EXPECT_EQ(restored->done(), run.done());
    EXPECT_TRUE(WriteCheckpoint(plan_, restored->Save(), "") == file);
    return restored;
  }

 private:
  const Case case_;
  const JobPlan plan_;
  mutable std::vector<std::unique_ptr<ThreadPool>> pools_;  // of 1, 2, ... threads
};

// The run's events until now, without timing, appended.
void TakeEvents(JobRun& run, std::vector<std::string>& events) {
  for (v1::Event& event : run.TakeEvents()) {
    if (event.has_step()) event.mutable_step()->clear_timing();
    if (event.has_epoch()) event.mutable_epoch()->clear_timing();
    events.push_back(event.DebugString());
  }
}

void StepOrDie(JobRun& run, std::vector<std::string>& events) {
  const absl::Status status = run.Step();
  ASSERT_TRUE(status.ok()) << status;
  TakeEvents(run, events);
}

std::vector<Case> Cases() {
  const SmallData vectors = MakeVectors(100, 20, 1);
  const SmallData images = MakeImages(70, 1);
  SmallData binary = vectors;
  std::vector<float> positive(100);
  for (size_t n = 0; n < positive.size(); ++n) positive[n] = vectors.y.bytes[n] == std::byte{1};
  binary.y = MakeTensor(DType::kFloat32, {100, 1}, positive);
  std::vector<Case> cases;
  cases.push_back({"sgd with momentum, records that an epoch cuts, max_steps within an epoch",
                   With(MlpJob(), R"({"batchSize":24,"epochs":3,"maxSteps":12,"logEvery":3,
                     "optimizer":{"sgd":{"learningRate":0.1,"momentum":0.9}},
                     "metrics":["precision","f1"]})"),
                   vectors, std::nullopt, ""});
  cases.push_back({"plateau, average, centered rmsprop, the best epoch's weights after a stop",
                   With(MlpJob(), R"({"batchSize":30,"shards":3,"epochs":8,"logEvery":3,
                     "optimizer":{"rmsprop":{"learningRate":0.02,"momentum":0.5,"centered":true}},
                     "learningRateSchedule":{"reduceOnPlateau":{"patience":1,"minDelta":0.1,"cooldown":1}},
                     "ema":{"momentum":0.8},
                     "earlyStopping":{"patience":3,"minDelta":1000,"restoreBestWeights":true}})"),
                   vectors, MakeVectors(45, 20, 2), ""});
  cases.back()
      .spec.mutable_model()
      ->mutable_layers(0)
      ->mutable_dense()
      ->mutable_kernel_regularizer()
      ->set_l2(1e-3f);
  cases.push_back({"adam, augmentation, dropout, BatchNorm, one cycle",
                   With(CnnJob(), R"({"batchSize":20,"shards":8,"epochs":2,"logEvery":3,
                     "optimizer":{"adam":{}},"learningRateSchedule":{"oneCycle":{}},
                     "augmentation":{"shift":2,"horizontalFlip":true,"cutout":3}})"),
                   images, MakeImages(33, 2), ""});
  v1::JobSpec cumulative = With(MlpJob(), R"({"shuffle":false,"epochs":2,"optimizer":{"adam":{}},
                                              "earlyStopping":{"patience":1}})");
  cumulative.mutable_model()
      ->mutable_layers(1)
      ->mutable_batch_normalization()
      ->set_cumulative_average(true);
  cases.push_back({"cumulative average of BatchNorm, in order", cumulative, vectors,
                   MakeVectors(45, 20, 2), ""});
  cases.push_back({"adapted normalization, binary, auc, two outputs", ParseJson<v1::JobSpec>(R"({
      "model":{"inputs":[{"shape":[20]}],"layers":[
        {"normalization":{}}, {"name":"body","dense":{"units":8,"activation":"relu"}},
        {"name":"a","dense":{"units":1,"activation":"sigmoid"}},
        {"name":"b","inputs":["body"],"dense":{"units":1}}],
        "outputs":["a","b"]},
      "data":{"train":{"dataset":"small","y":["y","y"]}},
      "training":{"batchSize":24,"epochs":2,"seed":1,"logEvery":2,
        "losses":[{"binaryCrossentropy":{}},{"meanSquaredError":{},"weight":0.5}],
        "metrics":["auc","recall","accuracy","rmse"]}})"),
                   binary, std::nullopt, ""});
  v1::JobSpec initial = With(MlpJob(), R"({"epochs":2})");
  const std::string weights = Train(MlpJob(), MakeVectors(100, 20, 7), 1).weights;
  initial.mutable_initial_weights()->mutable_safetensors()->set_sha256(Sha256(weights));
  cases.push_back({"initial weights", initial, vectors, std::nullopt, weights});
  v1::JobSpec statistics = CnnJob();  // of two BatchNorms
  const std::string trained = Train(statistics, images, 1).weights;
  statistics.mutable_initial_weights()->mutable_safetensors()->set_sha256(Sha256(trained));
  statistics.mutable_population_statistics();
  cases.push_back({"population statistics", statistics, images, std::nullopt, trained});
  return cases;
}

// Stops after each step in turn and goes on, with other threads, in a run that knows only the file.
TEST(CheckpointTest, ARestoredRunEndsAsTheUndisturbedOneFromEveryStep) {
  int stopped_early = 0;
  for (Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Runs runs(std::move(c));
    const auto whole = runs.Start(1);
    std::vector<std::vector<std::string>> after = {{}};  // by step, the events so far
    std::vector<std::string> events;
    while (!whole->done()) {
      StepOrDie(*whole, events);
      if (testing::Test::HasFatalFailure()) return;
      after.push_back(events);
    }
    ASSERT_GT(events.size(), 0u);
    stopped_early += whole->step() < runs.plan().total_steps ? 1 : 0;
    const auto stopped = runs.Start(2);
    for (size_t k = 0; k < after.size(); ++k) {
      SCOPED_TRACE("after step " + std::to_string(k));
      const auto restored = runs.GoOn(*stopped, 1 + static_cast<int>(k % 3));
      std::vector<std::string> later = after[k];
      while (!restored->done()) {
        StepOrDie(*restored, later);
        if (testing::Test::HasFatalFailure()) return;
      }
      ASSERT_EQ(later, events);
      ASSERT_EQ(restored->StateHash(), whole->StateHash());
      ASSERT_TRUE(restored->SerializeWeights() == whole->SerializeWeights());
      if (!stopped->done()) {
        ASSERT_TRUE(stopped->Step().ok());
        stopped->TakeEvents();
      }
    }
  }
  EXPECT_GT(stopped_early, 0);
}

TEST(CheckpointTest, AChainOfRestoresAfterEveryStepChangesNothing) {
  for (Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Runs runs(std::move(c));
    const auto whole = runs.Start(2);
    auto chained = runs.Start(1);
    std::vector<std::string> events;
    std::vector<std::string> chained_events;
    for (int k = 0; !whole->done(); ++k) {
      StepOrDie(*whole, events);
      StepOrDie(*chained, chained_events);
      if (testing::Test::HasFatalFailure()) return;
      chained = runs.GoOn(*chained, 1 + k % 3);
    }
    EXPECT_TRUE(chained->done());
    EXPECT_EQ(chained_events, events);
    EXPECT_EQ(chained->StateHash(), whole->StateHash());
    EXPECT_TRUE(chained->SerializeWeights() == whole->SerializeWeights());
  }
}

// What a job that diverges says of the losses before is the run's, not the attempt's.
TEST(CheckpointTest, ADivergingRunSaysTheSame) {
  const Runs runs({"", With(MlpJob(), R"({"epochs":9,"optimizer":{"sgd":{"learningRate":1e30}}})"),
                   MakeVectors(100, 20, 1), std::nullopt, ""});
  const auto whole = runs.Start(1);
  const auto stopped = runs.Start(1);
  std::unique_ptr<JobRun> restored = runs.GoOn(*stopped, 2);
  absl::Status status = whole->Step();
  while (status.ok() && !whole->done()) {
    ASSERT_TRUE(restored->Step().ok());
    restored = runs.GoOn(*restored, 1);
    status = whole->Step();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(restored->Step(), status);
}

TEST(CheckpointTest, AProfileIsOfStepsAfterTheRestore) {
  v1::JobSpec spec = With(MlpJob(), R"({"epochs":20})");
  spec.mutable_resources()->set_profile(true);
  const Runs runs({"", spec, MakeVectors(100, 20, 1), std::nullopt, ""});
  const auto run = runs.Start(1);
  for (int k = 0; k < 20; ++k) ASSERT_TRUE(run->Step().ok());
  const auto restored = runs.GoOn(*run, 1);
  while (!restored->done()) ASSERT_TRUE(restored->Step().ok());
  std::vector<v1::Profile> profiles;
  for (const v1::Event& event : restored->TakeEvents()) {
    if (event.has_profile()) profiles.push_back(event.profile());
  }
  ASSERT_EQ(profiles.size(), 1u);
  EXPECT_EQ(profiles[0].first_step(), 31);
  EXPECT_EQ(profiles[0].last_step(), 80);
}

// In the middle of an epoch.
class CheckpointFileTest : public testing::Test {
 protected:
  CheckpointFileTest()
      : runs_({"", With(MlpJob(), R"({"optimizer":{"adam":{}},"ema":{"momentum":0.8}})"),
               MakeVectors(100, 20, 1), std::nullopt, ""}) {
    const auto run = runs_.Start(1);
    for (int k = 0; k < 2; ++k) EXPECT_TRUE(run->Step().ok());
    snapshot_ = run->Save();
    file_ = WriteCheckpoint(runs_.plan(), snapshot_, "before");
  }

  absl::Status Read(const std::string& file) const {
    return ReadCheckpoint(runs_.plan(), file).status();
  }
  void ExpectRefusal(const std::string& file, const std::string& why) const {
    const absl::Status status = Read(file);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(why), std::string::npos) << status;
  }

  const Runs runs_;
  RunSnapshot snapshot_;
  std::string file_;
};

TEST_F(CheckpointFileTest, SaysWhatTheFormatPromises) {
  const auto file = ReadSafetensors(file_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("format"), "lockstep-checkpoint");
  EXPECT_EQ(file->metadata.at("contract"), kContract);
  EXPECT_EQ(file->metadata.at("fingerprint"), runs_.plan().fingerprint);
  EXPECT_EQ(file->metadata.at("step"), "2");
  EXPECT_EQ(file->metadata.at("state_hash"), snapshot_.StateHash());
  EXPECT_EQ(file->metadata.at("previous"), "before");
  std::vector<std::string> names;
  for (const FloatTensorView& tensor : file->tensors) names.push_back(tensor.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"average", "buffers", "parameters", "scores.0.accuracy",
                                      "scores.0.losses", "slots.0", "slots.1"}));
}

TEST_F(CheckpointFileTest, TornAnywhereIsRefused) {
  ASSERT_TRUE(Read(file_).ok());
  for (size_t size = 0; size < file_.size(); ++size) {
    ASSERT_EQ(Read(file_.substr(0, size)).code(), absl::StatusCode::kInvalidArgument) << size;
  }
  ExpectRefusal(file_.substr(0, file_.size() - 1), "a torn one");
  ExpectRefusal(file_ + "x", "a torn one");
}

// But for the scores, which the blob's digest protects.
TEST_F(CheckpointFileTest, AFlippedBitIsRefused) {
  uint64_t header = 0;
  std::memcpy(&header, file_.data(), sizeof(header));
  const auto floats = [&](const char* name) { return snapshot_.vectors.at(name).size(); };
  const size_t data = sizeof(header) + header;
  const size_t scores =
      data + sizeof(float) * (floats("average") + floats("buffers") + floats("parameters"));
  const size_t slots =
      scores + sizeof(float) * (floats("scores.0.accuracy") + floats("scores.0.losses"));
  for (size_t i = 0; i < file_.size(); ++i) {
    if (i >= scores && i < slots) continue;
    for (int bit = 0; bit < 8; ++bit) {
      if (i >= data && bit != static_cast<int>(i % 8)) continue;
      std::string flipped = file_;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      ASSERT_EQ(Read(flipped).code(), absl::StatusCode::kInvalidArgument) << i << ", bit " << bit;
    }
  }
  std::string flipped = file_;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  ExpectRefusal(flipped, "its vectors have ");
}

TEST_F(CheckpointFileTest, OfAnotherFormatContractOrJobIsRefusedByName) {
  ExpectRefusal(WriteSafetensors({}, {}), "its format is \"\"");
  JobPlan other = runs_.plan();
  other.fingerprint = "f00d";
  ExpectRefusal(WriteCheckpoint(other, snapshot_, ""), "its fingerprint is f00d");

  // A whole file of another contract: its header hash is made as checkpoint.h says.
  std::map<std::string, std::string> metadata = ReadSafetensors(file_)->metadata;
  metadata["contract"] = "lockstep-0";
  metadata.erase("header_hash");
  std::string text;
  for (const auto& [key, value] : metadata) text += key + "=" + value + "\n";
  metadata["header_hash"] = Sha256(text);
  ExpectRefusal(WriteSafetensors(metadata, {}), "of contract \"lockstep-0\"");
}

TEST_F(CheckpointFileTest, DoesNotFitAnotherJob) {
  const auto refused = [&](const RunSnapshot& snapshot, const std::string& why) {
    const absl::Status status = runs_.Start(1)->Restore(snapshot);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(why), std::string::npos) << status;
  };
  ASSERT_TRUE(runs_.Start(1)->Restore(snapshot_).ok());
  const std::pair<std::function<void(RunSnapshot&)>, const char*> changes[] = {
      {[](RunSnapshot& s) { s.vectors["parameters"].push_back(0); }, "parameters has "},
      {[](RunSnapshot& s) { s.vectors.erase("slots.1"); }, "slots.1 is missing"},
      {[](RunSnapshot& s) { s.vectors.erase("average"); }, "average is missing"},
      {[](RunSnapshot& s) { s.vectors["scores.0.accuracy"].pop_back(); }, "scores.0.accuracy has "},
      {[](RunSnapshot& s) { s.vectors["slots.2"]; }, "vectors that the job does not have"},
      {[](RunSnapshot& s) { s.state.set_step(-1); }, "step -1 of 10"},
      {[](RunSnapshot& s) { s.state.set_step(11); }, "step 11 of 10"},
      {[](RunSnapshot& s) { s.state.set_step(3); }, "loss is of 48 samples"},
      {[](RunSnapshot& s) { s.state.mutable_loss()->clear_losses(); }, "0 outputs"},
      {[](RunSnapshot& s) { s.state.mutable_recorder()->clear_summaries(); }, "0 summaries"},
      {[](RunSnapshot& s) { s.state.clear_last_losses(); }, "0 losses"},
      {[](RunSnapshot& s) { s.state.mutable_learning_rate()->mutable_monitor(); },
       "another schedule"},
  };
  for (const auto& [change, why] : changes) {
    RunSnapshot changed = snapshot_;
    change(changed);
    refused(changed, why);
  }
}

}  // namespace
}  // namespace lockstep
