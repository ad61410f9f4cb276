// Trains and asks a network in this process, as fast as it goes. bench.py compares it with others.
//
//   lockstep_bench JOB.json THREADS             answers each line of standard input with one of
//   JSON:
//     train BATCH SHARDS SECONDS                samples/s on random images; SHARDS 0: the default
//     infer DIRECTORY BATCH SECONDS             samples/s on one thread with weights.safetensors
//     and
//                                               input.bin of DIRECTORY, and the first sample's
//                                               answer
//   lockstep_bench JOB.json THREADS first-step  trains one step of the job and ends
//
// JOB.json is a JobSpec as the lockstep command takes it; its data is replaced by random 8-bit
// images of the input's shape, its metrics and validation are left out. What a request needs is
// made and warmed up before the clock starts, and kept for the next one.

#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/data/tensor.h"
#include "core/inference/inference_model.h"
#include "core/parallel/thread_pool.h"
#include "core/training/explain.h"
#include "core/training/job_plan.h"
#include "core/training/trainer.h"

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kClasses = 10;
constexpr int64_t kMaxMemoryBytes = int64_t{4} << 30;
constexpr int64_t kSamples = 60'000;  // Fashion-MNIST's: an epoch's end is as rare as in practice
constexpr int kWarmUpCalls = 10;

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "lockstep_bench: %s\n", message.c_str());
  std::exit(1);
}

void Check(const absl::Status& status) {
  if (!status.ok()) Die(status.ToString());
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) Die(path + ": cannot be read");
  return bytes;
}

v1::JobSpec ReadSpec(const char* path) {
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(ReadFile(path), &spec);
  if (!status.ok()) Die(std::string(path) + ": " + status.ToString());
  spec.mutable_data()->clear_validation();
  v1::TrainingSpec& training = *spec.mutable_training();
  training.clear_metrics();
  training.set_epochs(1'000'000);
  training.clear_max_steps();
  return spec;
}

Tensor RandomTensor(std::vector<int64_t> shape, int bound) {
  std::minstd_rand random(1);
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

// Calls of `work` per second, for at least so long.
template <typename Work>
double CallsPerSecond(double seconds, Work work) {
  const Clock::time_point start = Clock::now();
  int64_t calls = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    work();
    ++calls;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return static_cast<double>(calls) / elapsed;
}

class Training {
 public:
  Training(v1::JobSpec spec, int64_t samples, ThreadPool& pool) {
    std::vector<int64_t> x_shape = {samples};
    x_shape.insert(x_shape.end(), spec.model().inputs(0).shape().begin(),
                   spec.model().inputs(0).shape().end());
    x_ = RandomTensor(x_shape, 256);
    y_ = RandomTensor({samples}, kClasses);
    v1::Dataset dataset;
    dataset.set_name(spec.data().train().dataset());
    Describe("x", x_, dataset);
    Describe("y", y_, dataset);
    absl::StatusOr<JobPlan> plan = PlanJob(spec, dataset, nullptr, kMaxMemoryBytes);
    Check(plan.status());
    plan_ = *std::move(plan);
    auto trainer = Trainer::Create(plan_, {{x_}, {y_}}, std::nullopt, &pool);
    Check(trainer.status());
    trainer_ = *std::move(trainer);
  }

  int shards() const { return plan_.spec.training().shards(); }
  // Measures the machine first.
  double PredictStepSeconds(int threads) const {
    return Explain(plan_, threads, MeasureCorePeaks()).step_ms() / 1e3;
  }

  void Step() {
    Check(trainer_->Step());
    trainer_->TakeEvents();
  }

 private:
  Tensor x_, y_;
  JobPlan plan_;
  std::unique_ptr<Trainer> trainer_;
};

class Inference {
 public:
  Inference(const v1::ModelSpec& spec, const std::string& directory) {
    auto model = InferenceModel::Create(spec, ReadFile(directory + "/weights.safetensors"));
    Check(model.status());
    model_ = *std::move(model);
    const std::string input = ReadFile(directory + "/input.bin");
    x_.resize(input.size() / sizeof(float));
    std::memcpy(x_.data(), input.data(), x_.size() * sizeof(float));
  }

  std::vector<float> Predict(int64_t batch) {
    std::vector<float> y(batch * RowSize(model_->outputs()));
    const int64_t values = batch * RowSize(model_->inputs());
    model_->Predict(batch, std::span(x_).first(values), y, arena_);
    y.resize(RowSize(model_->outputs()));
    return y;
  }

 private:
  std::unique_ptr<const InferenceModel> model_;
  InferenceModel::Arena arena_;
  std::vector<float> x_;
};

// The requests, on one job and one pool.
class Bench {
 public:
  Bench(v1::JobSpec spec, int threads) : spec_(std::move(spec)), pool_(threads) {}

  void FirstStep() { Training(spec_, spec_.training().batch_size(), pool_).Step(); }

  std::string Train(std::istream& request) {
    int64_t batch;
    int shards;
    double seconds;
    if (!(request >> batch >> shards >> seconds)) Die("train needs BATCH SHARDS SECONDS");
    std::unique_ptr<Training>& training = trainings_[{batch, shards}];
    if (training == nullptr) {
      v1::JobSpec spec = spec_;
      spec.mutable_training()->set_batch_size(batch);
      spec.mutable_training()->set_shards(shards);
      training = std::make_unique<Training>(spec, kSamples / batch * batch, pool_);
      for (int i = 0; i < kWarmUpCalls; ++i) training->Step();
    }
    const double steps = CallsPerSecond(seconds, [&] { training->Step(); });
    return absl::StrCat("{\"samples_per_s\": ", steps * static_cast<double>(batch),
                        ", \"predicted_samples_per_s\": ",
                        static_cast<double>(batch) / training->PredictStepSeconds(pool_.threads()),
                        ", \"shards\": ", training->shards(), "}");
  }

  std::string Infer(std::istream& request) {
    std::string directory;
    int64_t batch;
    double seconds;
    if (!(request >> directory >> batch >> seconds)) Die("infer needs DIRECTORY BATCH SECONDS");
    std::unique_ptr<Inference>& inference = inferences_[directory];
    if (inference == nullptr) inference = std::make_unique<Inference>(spec_.model(), directory);
    std::vector<float> y;
    for (int i = 0; i < kWarmUpCalls; ++i) y = inference->Predict(batch);
    const double calls = CallsPerSecond(seconds, [&] { inference->Predict(batch); });
    return absl::StrCat("{\"samples_per_s\": ", calls * static_cast<double>(batch), ", \"y\": [",
                        absl::StrJoin(y, ", "), "]}");
  }

 private:
  const v1::JobSpec spec_;
  ThreadPool pool_;
  std::map<std::pair<int64_t, int>, std::unique_ptr<Training>> trainings_;  // by batch, shards
  std::map<std::string, std::unique_ptr<Inference>> inferences_;            // by directory
};

int Main(int argc, char** argv) {
  const bool first_step = argc == 4 && std::string(argv[3]) == "first-step";
  if (argc != 3 && !first_step) Die("usage: lockstep_bench JOB.json THREADS [first-step]");
  Bench bench(ReadSpec(argv[1]), std::atoi(argv[2]));
  if (first_step) {
    bench.FirstStep();
    return 0;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream request(line);
    std::string verb;
    request >> verb;
    if (verb != "train" && verb != "infer") Die("no such request: " + line);
    std::cout << (verb == "train" ? bench.Train(request) : bench.Infer(request)) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::Main(argc, argv); }
