// Measures how fast one job trains in this process, and prints it as one JSON line. bench.py
// compares it with PyTorch.
//
//   lockstep_bench JOB.json BATCH SHARDS THREADS SECONDS
//
// JOB.json is a JobSpec as the lockstep command takes it; its data is replaced by random 8-bit
// images of the input's shape, its metrics and validation are left out, SHARDS 0 means the default.

#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_plan.h"
#include "core/training/trainer.h"

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kClasses = 10;
constexpr int64_t kMaxMemoryBytes = int64_t{4} << 30;
constexpr int64_t kBatches = 32;  // in the data set: every epoch has full batches only
constexpr int kWarmUpSteps = 10;

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "lockstep_bench: %s\n", message.c_str());
  std::exit(1);
}

v1::JobSpec ReadSpec(const char* path, int64_t batch, int shards) {
  std::ifstream file(path);
  const std::string json{std::istreambuf_iterator<char>(file), {}};
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &spec);
  if (!file || !status.ok()) Die(std::string(path) + ": " + status.ToString());
  spec.mutable_data()->clear_validation();
  v1::TrainingSpec& training = *spec.mutable_training();
  training.clear_metrics();
  training.set_batch_size(batch);
  training.set_shards(shards);
  training.set_epochs(1'000'000);
  training.clear_max_steps();
  return spec;
}

Tensor RandomTensor(std::vector<int64_t> shape, int bound) {
  std::mt19937 random(1);
  Tensor tensor{DType::kUint8, std::move(shape), {}};
  tensor.bytes.resize(ElementCount(tensor.shape));
  for (std::byte& value : tensor.bytes) value = static_cast<std::byte>(random() % bound);
  return tensor;
}

void Describe(const std::string& name, const Tensor& tensor, v1::Dataset& dataset) {
  v1::Tensor& description = *dataset.add_tensors();
  description.set_name(name);
  description.set_dtype(std::string(DTypeName(tensor.dtype)));
  for (int64_t dimension : tensor.shape) description.add_shape(dimension);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Die(status.ToString());
}

double SamplesPerSecond(Trainer& trainer, int64_t batch, double seconds) {
  for (int i = 0; i < kWarmUpSteps; ++i) Check(trainer.Step());
  const Clock::time_point start = Clock::now();
  int64_t samples = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    Check(trainer.Step());
    trainer.TakeEvents();
    samples += batch;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return static_cast<double>(samples) / elapsed;
}

int Main(int argc, char** argv) {
  if (argc != 6) Die("usage: lockstep_bench JOB.json BATCH SHARDS THREADS SECONDS");
  const int64_t batch = std::atoll(argv[2]);
  const int threads = std::atoi(argv[4]);
  const v1::JobSpec spec = ReadSpec(argv[1], batch, std::atoi(argv[3]));

  std::vector<int64_t> x_shape = {batch * kBatches};
  x_shape.insert(x_shape.end(), spec.model().input().shape().begin(),
                 spec.model().input().shape().end());
  const Tensor x = RandomTensor(x_shape, 256);
  const Tensor y = RandomTensor({batch * kBatches}, kClasses);
  v1::Dataset dataset;
  dataset.set_name(spec.data().train().dataset());
  Describe("x", x, dataset);
  Describe("y", y, dataset);

  absl::StatusOr<JobPlan> plan = PlanJob(spec, dataset, nullptr, kMaxMemoryBytes);
  Check(plan.status());
  ThreadPool pool(threads);
  absl::StatusOr<std::unique_ptr<Trainer>> trainer =
      Trainer::Create(*plan, {x, y}, std::nullopt, &pool);
  Check(trainer.status());
  std::printf("{\"samples_per_s\": %.1f, \"shards\": %d}\n",
              SamplesPerSecond(**trainer, batch, std::atof(argv[5])),
              plan->spec.training().shards());
  return 0;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
