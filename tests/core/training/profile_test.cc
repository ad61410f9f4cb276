// A profile says where the time of a job's steps went, and is paid for by nobody: not in bits, and
// only by jobs that ask for one.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/core/training/small_job.h"

namespace lockstep {
namespace {

v1::JobSpec Profiled(v1::JobSpec spec) {
  spec.mutable_resources()->set_profile(true);
  return spec;
}

// Takes the profiles out of what a training gave.
std::vector<v1::Profile> TakeProfiles(Trained& trained) {
  std::vector<v1::Profile> profiles;
  std::erase_if(trained.events, [&](const v1::Event& event) {
    if (event.has_profile()) profiles.push_back(event.profile());
    return event.has_profile();
  });
  return profiles;
}

// 4 steps an epoch of 24 samples each.
v1::JobSpec LongCnnJob() {
  v1::JobSpec spec = CnnJob();
  spec.mutable_training()->set_epochs(16);
  return spec;
}
const SmallData& Images() {
  static const SmallData images = MakeImages(96, 1);
  return images;
}

TEST(ProfileTest, LeavesNoTrace) {
  for (const int threads : {1, 2}) {
    Trained plain = Train(LongCnnJob(), Images(), threads);
    Trained profiled = Train(Profiled(LongCnnJob()), Images(), threads);
    EXPECT_EQ(TakeProfiles(plain).size(), 0u);
    EXPECT_EQ(TakeProfiles(profiled).size(), 1u);
    EXPECT_EQ(profiled.state_hash, plain.state_hash);
    EXPECT_TRUE(profiled.weights == plain.weights);
    ASSERT_EQ(profiled.events.size(), plain.events.size());
    for (size_t i = 0; i < plain.events.size(); ++i) {
      EXPECT_EQ(profiled.events[i].SerializeAsString(), plain.events[i].SerializeAsString());
    }
  }
}

TEST(ProfileTest, RowsAddUpToTheStep) {
  for (const int threads : {1, 2, 3}) {
    Trained trained = Train(Profiled(LongCnnJob()), Images(), threads);
    const v1::Profile profile = TakeProfiles(trained).at(0);
    SCOPED_TRACE(profile.DebugString());
    EXPECT_EQ(profile.first_step(), 11);
    EXPECT_EQ(profile.last_step(), 60);
    EXPECT_EQ(profile.samples(), 24);
    EXPECT_EQ(profile.threads(), threads);
    EXPECT_GT(profile.peak_gflops(), 0);
    EXPECT_GT(profile.peak_gb_per_s(), 0);
    double sum = 0;
    for (const v1::ProfileRow& row : profile.rows()) {
      EXPECT_GE(row.ms(), 0);
      sum += row.ms();
    }
    EXPECT_GT(profile.step_ms(), 0);
    EXPECT_NEAR(sum, profile.step_ms(), 1e-6 * profile.step_ms());
  }
}

TEST(ProfileTest, CountsMultiplyAdds) {
  Trained trained = Train(Profiled(LongCnnJob()), Images(), 1);
  const v1::Profile profile = TakeProfiles(trained).at(0);
  double flops = 0;
  for (const v1::ProfileRow& row : profile.rows()) flops += row.flops();
  // Kernel values times positions: forward and kernel gradient; for all but the first layer also
  // the gradient of the input.
  const int first = 3 * 3 * 1 * 4 * (8 * 8);
  const int second = 3 * 3 * 4 * 5 * (2 * 2);
  const int dense = 2 * 2 * 5 * 3;
  EXPECT_EQ(flops, 24 * 2 * (2 * first + 3 * second + 3 * dense));
}

// A layer may be among the others when something else kept the machine busy.
TEST(ProfileTest, NamesLayersInTheOrderOfTheNetwork) {
  Trained trained = Train(Profiled(LongCnnJob()), Images(), 1);
  const v1::Profile profile = TakeProfiles(trained).at(0);
  std::vector<std::string> layers;
  for (const v1::ProfileRow& row : profile.rows()) {
    if (!row.layer().empty() && row.phase() == "forward") layers.push_back(row.layer());
  }
  const std::vector<std::string> all = {"conv2d",
                                        "batch_normalization",
                                        "max_pooling2d",
                                        "conv2d_1",
                                        "batch_normalization_1",
                                        "activation",
                                        "dropout",
                                        "dense"};
  EXPECT_FALSE(layers.empty());
  auto place = all.begin();
  for (const std::string& layer : layers) {
    place = std::find(place, all.end(), layer);
    ASSERT_NE(place, all.end()) << layer;
  }
  EXPECT_EQ(profile.rows().rbegin()->phase(), "waiting");
}

TEST(ProfileTest, ShortJobsHaveOneToo) {
  for (const int steps : {1, 2, 12}) {
    v1::JobSpec spec = Profiled(LongCnnJob());
    spec.mutable_training()->set_max_steps(steps);
    Trained trained = Train(spec, Images(), 1);
    const std::vector<v1::Profile> profiles = TakeProfiles(trained);
    ASSERT_EQ(profiles.size(), 1u);
    EXPECT_EQ(profiles[0].first_step(), std::min(steps, 11));
    EXPECT_EQ(profiles[0].last_step(), steps);
  }
}

}  // namespace
}  // namespace lockstep
