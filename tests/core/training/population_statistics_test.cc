// The job that computes exact statistics for a trained model.

#include "core/training/population_statistics.h"

#include <gtest/gtest.h>

#include "core/formats/safetensors.h"
#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

class PopulationStatisticsTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::vector<GoldenCase> cases = ReadGolden("population_statistics");
    ASSERT_EQ(cases.size(), 1u);
    golden_ = cases[0];
    *spec_.mutable_model() = golden_.Spec<v1::ModelSpec>();
    spec_.mutable_population_statistics();
    spec_.mutable_data()->mutable_train()->set_dataset("small");
    data_.x = MakeTensor(DType::kFloat32, golden_["x"].shape, golden_["x"].values);
    data_.y = MakeTensor(DType::kFloat32, {golden_["x"].shape[0]},
                         std::vector<float>(golden_["x"].shape[0]));

    v1::ModelSpec model = spec_.model();
    const Network network = *Network::Build(&model);
    std::vector<float> parameters(network.parameters_size());
    std::vector<float> buffers(network.buffers_size(), 7.0f);
    for (const NetworkTensor& t : network.parameters()) {
      std::ranges::copy(golden_[t.name].values, parameters.begin() + t.offset);
    }
    weights_ = WriteWeights(network, model, 0, parameters, buffers);
    spec_.mutable_initial_weights()->mutable_safetensors()->set_sha256(Sha256(weights_));
  }

  absl::StatusOr<JobPlan> Plan() const {
    return PlanJob(spec_, data_.Describe("small"), nullptr, 1 << 30);
  }

  std::unique_ptr<JobRun> Run(int threads) {
    pools_.push_back(std::make_unique<ThreadPool>(threads));
    auto run = StartJob(*Plan(), {{data_.x}, {}}, std::nullopt, pools_.back().get(), weights_);
    EXPECT_TRUE(run.ok()) << run.status();
    while (!(*run)->done()) EXPECT_TRUE((*run)->Step().ok());
    return *std::move(run);
  }

  GoldenCase golden_;
  v1::JobSpec spec_;
  SmallData data_;
  std::string weights_;
  std::vector<std::unique_ptr<ThreadPool>> pools_;
};

TEST_F(PopulationStatisticsTest, AreWhatPyTorchComputesOverTheWholeSet) {
  const std::string file = Run(2)->SerializeWeights();
  const auto read = ReadSafetensors(file);
  ASSERT_TRUE(read.ok());
  int statistics = 0;
  for (const FloatTensorView& t : read->tensors) {
    const bool moves = golden_.has(t.name + "_after");
    ExpectClose(t.values, golden_[moves ? t.name + "_after" : t.name], t.name);
    statistics += moves ? 1 : 0;
  }
  EXPECT_EQ(statistics, 4);
}

TEST_F(PopulationStatisticsTest, ThreadsDoNotMatter) {
  const auto one = Run(1);
  for (int threads : {2, 3, 8}) {
    const auto other = Run(threads);
    EXPECT_EQ(other->StateHash(), one->StateHash());
    EXPECT_EQ(other->SerializeWeights(), one->SerializeWeights());
  }
}

TEST_F(PopulationStatisticsTest, TellsItsSteps) {
  EXPECT_EQ(Plan()->total_steps, 2);
  const auto run = Run(1);
  const std::vector<v1::Event> events = run->TakeEvents();
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[2].step().step(), 2);
  EXPECT_EQ(events[3].text().text(), "\"last\": mean and variance of 1500 values a channel");
  EXPECT_EQ(events[3].text().step(), 2);
  EXPECT_EQ(events[4].epoch().state_hash(), run->StateHash());
}

TEST_F(PopulationStatisticsTest, NeedsATrainedModelWithBatchNorms) {
  v1::JobSpec whole = spec_;
  spec_.clear_initial_weights();
  EXPECT_EQ(Plan().status().message(), "initial_weights: is required: the trained model");
  spec_ = whole;
  spec_.mutable_data()->mutable_validation()->set_dataset("small");
  EXPECT_EQ(Plan().status().message(), "data.validation: means nothing to population_statistics");
  spec_ = whole;
  spec_.mutable_model()->mutable_layers()->DeleteSubrange(5, 1);
  spec_.mutable_model()->mutable_layers()->DeleteSubrange(1, 1);
  EXPECT_EQ(Plan().status().message(),
            "model.layers: there is no batch_normalization that could get statistics");
}

}  // namespace
}  // namespace lockstep
