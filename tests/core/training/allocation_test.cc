// After the first step a step allocates nothing, on any thread, but for the records that it logs.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>

#include "tests/core/training/small_job.h"

namespace {
std::atomic<int64_t> allocations = 0;
}

// glibc's allocator under its other names: whoever allocates, operator new included, comes here.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  ++allocations;
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
}

namespace lockstep {
namespace {

v1::JobSpec ResidualJob() {
  v1::JobSpec job = CnnJob();
  *job.mutable_model() = ParseJson<v1::ModelSpec>(R"({
      "inputs":[{"shape":[8,8,1],"scale":0.00392156862745098}],"layers":[
        {"name":"one","conv2d":{"filters":4,"kernelSize":[3],"padding":"same"}},
        {"conv2d":{"filters":4,"kernelSize":[3],"padding":"same","activation":"relu"}},
        {"name":"norm","batchNormalization":{}},
        {"add":{},"inputs":["norm","one"]}, {"maxPooling2d":{}},
        {"conv2d":{"filters":4,"kernelSize":[3],"padding":"same","groups":4}},
        {"batchNormalization":{}}, {"globalAveragePooling2d":{}}, {"dense":{"units":3}}]})");
  return job;
}

void ExpectNoAllocation(v1::JobSpec job, const SmallData& data) {
  job.mutable_training()->set_shards(3);
  job.mutable_training()->set_log_every(1000);
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    const int64_t before = allocations;
    auto trainer = Trainer::Create(PlanOrDie(job, data), data.view(), std::nullopt, &pool);
    ASSERT_TRUE(trainer.ok()) << trainer.status();
    EXPECT_GT(allocations, before) << "allocations are not counted";
    ASSERT_TRUE((*trainer)->Step().ok());
    // The last step of an epoch logs a record and hashes the state.
    for (int step = 2; step <= 5; ++step) {
      const int64_t before_step = allocations;
      const absl::Status status = (*trainer)->Step();
      EXPECT_EQ(allocations, before_step) << "step " << step << ", " << threads << " threads";
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

constexpr int64_t kSamples = 6 * 24;

TEST(Allocation, NoneInAStepOfAnMlp) { ExpectNoAllocation(MlpJob(), MakeVectors(kSamples, 20, 1)); }
TEST(Allocation, NoneInAStepOfACnn) { ExpectNoAllocation(CnnJob(), MakeImages(kSamples, 2)); }
TEST(Allocation, NoneInAStepWithWeightsAndMetrics) {
  v1::JobSpec job = MlpJob();
  SmallData data = MakeVectors(kSamples, 20, 1);
  data.weight = MakeTensor(DType::kFloat32, {kSamples}, std::vector<float>(kSamples, 0.5f));
  job.mutable_data()->mutable_train()->set_sample_weight("weight");
  for (float weight : {1.0f, 2.0f, 3.0f}) {
    job.mutable_training()->mutable_losses(0)->add_class_weights(weight);
  }
  for (const char* metric : {"top_2_accuracy", "precision", "recall", "f1"}) {
    job.mutable_training()->add_metrics(metric);
  }
  ExpectNoAllocation(job, data);
}
TEST(Allocation, NoneInAStepOfAResidualNetwork) {
  ExpectNoAllocation(ResidualJob(), MakeImages(kSamples, 2));
}
TEST(Allocation, NoneInAStepWithEverythingAroundTheOptimizer) {
  for (const char* clipping : {"value", "norm", "globalNorm"}) {
    v1::JobSpec job = CnnJob();
    job.mutable_model()->mutable_layers(0)->mutable_conv2d()->mutable_kernel_regularizer()->set_l2(
        0.01f);
    job.mutable_training()->clear_optimizer();
    job.mutable_training()->MergeFrom(ParseJson<v1::TrainingSpec>(
        std::string(R"({"optimizer":{"rmsprop":{"centered":true}},"weightDecay":{"rate":0.1},
            "learningRateSchedule":{"cosine":{"warmupSteps":2}},"ema":{},
            "augmentation":{"shift":2,"cutout":2},"gradientClipping":{")") +
        clipping + R"(":1}})"));
    ExpectNoAllocation(job, MakeImages(kSamples, 2));
  }
}

}  // namespace
}  // namespace lockstep
