// Histograms of weights: what is counted, where, when, and that they are the same wherever they are
// made. tests/e2e compares them with numpy's.

#include "core/training/weight_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/network/weights_file.h"
#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<v1::WeightReport> Reports(const std::vector<v1::Event>& events) {
  std::vector<v1::WeightReport> reports;
  for (const v1::Event& event : events) {
    if (event.has_weights()) reports.push_back(event.weights());
  }
  return reports;
}

std::string Bytes(const std::vector<v1::WeightReport>& reports) {
  std::string bytes;
  for (const v1::WeightReport& report : reports) bytes += report.SerializeAsString() + "\n";
  return bytes;
}

TEST(TensorHistogramTest, BucketsAreOfEqualWidthAndTheLastHasItsUpperEnd) {
  std::vector<float> values(61);
  std::iota(values.begin(), values.end(), -10.0f);
  const v1::TensorHistogram h = DescribeTensor("a.kernel", values);
  EXPECT_EQ(h.name(), "a.kernel");
  EXPECT_EQ(h.count(), 61);
  EXPECT_EQ(h.not_finite(), 0);
  EXPECT_EQ(h.min(), -10);
  EXPECT_EQ(h.max(), 50);
  EXPECT_EQ(h.sum(), 61 * 20);
  EXPECT_EQ(h.sum_of_squares(), 10 * 11 * 21 / 6 + 50 * 51 * 101 / 6);
  std::vector<int64_t> wanted(30, 2);
  wanted.back() = 3;
  EXPECT_EQ(std::vector<int64_t>(h.buckets().begin(), h.buckets().end()), wanted);
}

TEST(TensorHistogramTest, WhatIsNotFiniteIsCountedAndInNothingElse) {
  const std::vector<float> values = {kNan, 3, kInf, 1, -kInf, kNan, 2};
  const v1::TensorHistogram h = DescribeTensor("a", values);
  EXPECT_EQ(h.not_finite(), 4);
  v1::TensorHistogram finite = DescribeTensor("a", std::vector<float>{3, 1, 2});
  EXPECT_EQ(finite.min(), 1) << "not 0, where min starts";
  EXPECT_EQ(finite.sum_of_squares(), 14);
  finite.set_not_finite(4);
  EXPECT_EQ(h.SerializeAsString(), finite.SerializeAsString());
}

TEST(TensorHistogramTest, HasOneBucketOfEqualValuesAndNoneOfNoValue) {
  const v1::TensorHistogram equal = DescribeTensor("a", std::vector<float>(7, -0.5f));
  EXPECT_THAT(equal.buckets(), ElementsAre(7));
  EXPECT_EQ(equal.min(), -0.5);
  EXPECT_EQ(equal.max(), -0.5);
  EXPECT_THAT(DescribeTensor("a", std::vector<float>{0.0f, -0.0f}).buckets(), ElementsAre(2));
  for (const std::vector<float>& values : {std::vector<float>(), std::vector<float>{kNan, kInf}}) {
    const v1::TensorHistogram none = DescribeTensor("a", values);
    EXPECT_EQ(none.count(), 0);
    EXPECT_EQ(none.not_finite(), std::ssize(values));
    EXPECT_EQ(none.buckets_size(), 0);
    EXPECT_EQ(none.min(), 0);
    EXPECT_EQ(none.max(), 0);
  }
}

TEST(TensorHistogramTest, EveryValueFindsABucketWhateverItsSize) {
  constexpr float kMost = std::numeric_limits<float>::max();
  constexpr float kLeast = std::numeric_limits<float>::denorm_min();
  for (const std::vector<float>& values :
       {std::vector<float>{-kMost, kMost, 0, 1}, std::vector<float>{0, kLeast, kLeast, 0},
        std::vector<float>{kMost, std::nextafter(kMost, 0.0f), kMost, kMost},
        std::vector<float>{1, 1 + 0x1p-23f, 1 + 0x1p-22f, 1}}) {
    const v1::TensorHistogram h = DescribeTensor("a", values);
    ASSERT_EQ(h.buckets_size(), kHistogramBuckets);
    EXPECT_GT(h.buckets(0), 0);
    EXPECT_GT(h.buckets(kHistogramBuckets - 1), 0);
    EXPECT_EQ(std::accumulate(h.buckets().begin(), h.buckets().end(), int64_t{0}), 4);
  }
}

// Names at their longest, and counts of the largest networks.
TEST(WeightReportTest, StaysBelowAnEventsMebibyte) {
  v1::WeightReport report;
  for (int64_t t = 0; t < kMaxReportedTensors; ++t) {
    v1::TensorHistogram& h = *report.add_tensors();
    h.set_name(std::string(128, 'x') + ".recurrent_kernel");
    for (auto set : {&v1::TensorHistogram::set_min, &v1::TensorHistogram::set_max,
                     &v1::TensorHistogram::set_sum, &v1::TensorHistogram::set_sum_of_squares}) {
      (h.*set)(0.1);
    }
    h.set_count(int64_t{1} << 32);
    h.set_not_finite(int64_t{1} << 32);
    for (int b = 0; b < kHistogramBuckets; ++b) h.add_buckets(int64_t{1} << 31);
  }
  EXPECT_LT(report.ByteSizeLong(), (1 << 20) - 1000);
}

TEST(WeightReportTest, HasTheFirstTensorsOfTheLargestNetworks) {
  v1::ModelSpec model;
  model.add_inputs()->add_shape(2);
  for (int i = 0; i < 1001; ++i) model.add_layers()->mutable_dense()->set_units(2);
  const absl::StatusOr<Network> network = Network::Build(&model);
  ASSERT_TRUE(network.ok()) << network.status();
  const std::vector<float> parameters(network->parameters_size(), 1);
  ThreadPool pool(2);
  const v1::WeightReport report = DescribeWeights(*network, pool, parameters, {});
  ASSERT_EQ(report.tensors_size(), kMaxReportedTensors);
  EXPECT_EQ(report.tensors(1999).name(), "dense_999.bias");
}

TEST(WeightReportTest, IsOfTheWeightsThatTheFileHasInItsOrder) {
  for (const bool average : {false, true}) {
    v1::JobSpec job = CnnJob();
    if (average) job.mutable_training()->mutable_ema();
    const Trained trained = Train(job, MakeImages(100, 1), 2);
    const std::vector<v1::WeightReport> reports = Reports(trained.events);
    ASSERT_EQ(reports.size(), 1u) << "two epochs of five steps share one";
    EXPECT_EQ(reports[0].epoch(), 2);
    EXPECT_EQ(reports[0].step(), 10);
    v1::ModelSpec model = job.model();
    const Network network = *Network::Build(&model);
    std::vector<float> parameters(network.parameters_size()), buffers(network.buffers_size());
    ASSERT_TRUE(ReadWeights(network, trained.weights, parameters, buffers).ok());
    int t = 0;
    for (const auto& [tensors, flat] :
         {std::pair(network.parameters(), &parameters), std::pair(network.buffers(), &buffers)}) {
      for (const NetworkTensor& tensor : tensors) {
        ASSERT_LT(t, reports[0].tensors_size());
        const std::span<const float> values(flat->data() + tensor.offset, tensor.size);
        EXPECT_EQ(reports[0].tensors(t++).SerializeAsString(),
                  DescribeTensor(tensor.name, values).SerializeAsString());
      }
    }
    EXPECT_EQ(t, reports[0].tensors_size());
  }
}

TEST(WeightReportTest, IsTheSameOnAnyNumberOfThreadsAndAfterAResumeInTheMiddle) {
  const SmallData data = MakeImages(100, 1);
  v1::JobSpec job = CnnJob();
  job.mutable_training()->set_batch_size(4);
  job.mutable_training()->set_epochs(3);
  const std::string wanted = Bytes(Reports(Train(job, data, 1).events));
  EXPECT_EQ(Reports(Train(job, data, 1).events).size(), 3u);
  EXPECT_EQ(Bytes(Reports(Train(job, data, 3).events)), wanted);

  ThreadPool pool(2);
  const JobPlan plan = PlanOrDie(job, data);
  auto before = Trainer::Create(plan, data.view(), std::nullopt, &pool);
  auto after = Trainer::Create(plan, data.view(), std::nullopt, &pool);
  ASSERT_TRUE(before.ok() && after.ok());
  while ((*before)->step() < 33) ASSERT_TRUE((*before)->Step().ok());
  std::vector<v1::WeightReport> reports = Reports((*before)->TakeEvents());
  ASSERT_TRUE((*after)->Restore((*before)->Save()).ok());
  while (!(*after)->done()) ASSERT_TRUE((*after)->Step().ok());
  for (v1::WeightReport& report : Reports((*after)->TakeEvents())) {
    reports.push_back(std::move(report));
  }
  EXPECT_EQ(Bytes(reports), wanted);
}

TEST(WeightReportTest, IsMadeOfNetworksWithoutBatchNorm) {
  v1::JobSpec job = MlpJob();
  job.mutable_model()->mutable_layers()->DeleteSubrange(1, 1);
  const std::vector<v1::WeightReport> reports =
      Reports(Train(job, MakeVectors(100, 20, 1), 1).events);
  ASSERT_EQ(reports.size(), 1u);
  ASSERT_EQ(reports[0].tensors_size(), 4);
  EXPECT_EQ(reports[0].tensors(0).name(), "dense.kernel");
  EXPECT_EQ(reports[0].tensors(3).name(), "dense_1.bias");
}

}  // namespace
}  // namespace lockstep
