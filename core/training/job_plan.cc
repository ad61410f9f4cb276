#include "core/training/job_plan.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/data/tensor.h"
#include "core/network/initial_weights.h"
#include "core/network/network.h"
#include "core/network/training_pass.h"
#include "core/parallel/shards.h"
#include "core/parallel/thread_pool.h"
#include "core/training/evaluation.h"
#include "core/training/optimizer.h"
#include "core/training/population_statistics.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 31;  // the random numbers' counter has 32 bits of step
constexpr int64_t kMaxSamples = (int64_t{1} << 31) - 1;
constexpr int kMaxShards = 256;
// Threads that the memory estimate counts with when the worker's decide.
constexpr int kEstimateThreads = 16;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Invalid("training.", field, ": must be within [", low, ", ", high, "], got ", value);
}

absl::Status CheckPositive(absl::string_view field, double value) {
  if (value > 0 && std::isfinite(value)) return absl::OkStatus();
  return Invalid("training.optimizer.", field, ": must be > 0 and finite, got ", value);
}

absl::Status CheckDecay(absl::string_view field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return Invalid("training.optimizer.", field, ": must be within [0, 1), got ", value);
}

absl::Status CheckOptimizer(v1::Optimizer* optimizer) {
  if (optimizer->kind_case() == v1::Optimizer::KIND_NOT_SET) optimizer->mutable_adam();
  if (optimizer->has_adam()) {
    v1::Adam& adam = *optimizer->mutable_adam();
    if (!adam.has_learning_rate()) adam.set_learning_rate(0.001);
    if (!adam.has_beta_1()) adam.set_beta_1(0.9);
    if (!adam.has_beta_2()) adam.set_beta_2(0.999);
    if (!adam.has_epsilon()) adam.set_epsilon(1e-7);
    absl::Status status = CheckPositive("adam.learning_rate", adam.learning_rate());
    status.Update(CheckDecay("adam.beta_1", adam.beta_1()));
    status.Update(CheckDecay("adam.beta_2", adam.beta_2()));
    status.Update(CheckPositive("adam.epsilon", adam.epsilon()));
    return status;
  }
  v1::Sgd& sgd = *optimizer->mutable_sgd();
  if (!sgd.has_learning_rate()) sgd.set_learning_rate(0.01);
  absl::Status status = CheckPositive("sgd.learning_rate", sgd.learning_rate());
  if (!(sgd.momentum() >= 0 && sgd.momentum() <= 1)) {
    status.Update(
        Invalid("training.optimizer.sgd.momentum: must be within [0, 1], got ", sgd.momentum()));
  }
  return status;
}

// What the loss asks of the network's output.
absl::Status CheckLoss(const v1::TrainingSpec& training, const Network& network) {
  const Network::Node& last = network.nodes().back();
  if (training.losses_size() != 1) {
    return Invalid("training.losses: must have one loss, got ", training.losses_size());
  }
  if (training.losses(0).has_sparse_categorical_crossentropy()) {
    const bool from_logits = training.losses(0).sparse_categorical_crossentropy().from_logits();
    if (network.output().rank() != 1 || network.output().size() < 2) {
      return Invalid(
          "training.losses[0].sparse_categorical_crossentropy: needs an output [N, classes] "
          "with at least 2 classes, but layer \"",
          last.name, "\" gives [N, ", ShapeString(network.output().dims()).substr(1));
    }
    if (from_logits == last.layer->traits().ends_in_softmax) {
      return Invalid("training.losses[0].sparse_categorical_crossentropy.from_logits: ",
                     from_logits ? "must be false, because the last layer \""
                                 : "must be true, or the last layer end in a softmax; \"",
                     last.name, from_logits ? "\" ends in a softmax" : "\" does not");
    }
  } else if (!training.losses(0).has_mean_squared_error()) {
    return Invalid(
        "training.losses[0]: is required: sparse_categorical_crossentropy or "
        "mean_squared_error");
  }
  for (const std::string& metric : training.metrics()) {
    if (metric != "accuracy") {
      return Invalid("training.metrics: \"", metric, "\" is unknown; there is accuracy");
    }
    if (!training.losses(0).has_sparse_categorical_crossentropy()) {
      return Invalid("training.metrics: accuracy needs the loss sparse_categorical_crossentropy");
    }
  }
  return absl::OkStatus();
}

// Groups of shards must be equally many shards each.
absl::Status CheckShardGroups(const v1::ModelSpec& model, int shards) {
  for (int i = 0; i < model.layers_size(); ++i) {
    const int64_t group = model.layers(i).batch_normalization().group_shards();
    if (group > 0 && shards % group != 0) {
      return Invalid("model.layers[", i, "].batch_normalization.group_shards: must divide the ",
                     shards, " of training.shards, got ", group);
    }
  }
  return absl::OkStatus();
}

const v1::Tensor* FindTensor(const v1::Dataset& dataset, const std::string& name) {
  const auto found = std::find_if(dataset.tensors().begin(), dataset.tensors().end(),
                                  [&](const v1::Tensor& t) { return t.name() == name; });
  return found == dataset.tensors().end() ? nullptr : &*found;
}

// Whether samples of shape `data` can be read as `wanted`: the same dimensions, except that
// dimensions of 1 do not count and a one-dimensional input takes any shape of its size.
bool ShapesFit(std::span<const int64_t> data, std::span<const int64_t> wanted) {
  if (wanted.size() == 1) return ElementCount(data) == wanted[0];
  const auto without_ones = [](std::span<const int64_t> shape) {
    std::vector<int64_t> dims(shape.begin(), shape.end());
    std::erase(dims, 1);
    return dims;
  };
  return without_ones(data) == without_ones(wanted);
}

// Names the tensors of a source that the data set must have, with samples in them.
absl::StatusOr<const v1::Tensor*> CheckTensor(absl::string_view path, const std::string& name,
                                              const v1::Dataset& dataset) {
  const v1::Tensor* tensor = FindTensor(dataset, name);
  if (tensor == nullptr) {
    std::string names;
    for (const v1::Tensor& t : dataset.tensors()) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", t.name());
    }
    return Invalid(path, ": data set \"", dataset.name(), "\" has no tensor \"", name,
                   "\"; it has ", names);
  }
  if (tensor->shape().empty() || tensor->shape(0) < 1) {
    return Invalid(path, ": \"", name, "\" has no samples");
  }
  if (tensor->shape(0) > kMaxSamples) {
    return Invalid(path, ": \"", name, "\" has ", tensor->shape(0), " samples; at most ",
                   kMaxSamples);
  }
  return tensor;
}

std::vector<int64_t> SampleShape(const v1::Tensor& tensor) {
  return {tensor.shape().begin() + 1, tensor.shape().end()};
}

absl::Status CheckInputs(absl::string_view path, v1::DataSource* source, const v1::Dataset& dataset,
                         const Network& network) {
  if (source->x().empty()) source->add_x("x");
  auto x = CheckTensor(absl::StrCat(path, ".x"), source->x(0), dataset);
  if (!x.ok()) return x.status();
  const std::vector<int64_t> shape = SampleShape(**x);
  if (ShapesFit(shape, network.input().dims())) return absl::OkStatus();
  return Invalid(path, ".x: samples of \"", source->x(0), "\" have shape ", ShapeString(shape),
                 ", but model.inputs[0].shape is ", ShapeString(network.input().dims()));
}

absl::Status CheckSource(absl::string_view path, v1::DataSource* source, const v1::Dataset& dataset,
                         const v1::TrainingSpec& training, const Network& network) {
  if (auto s = CheckInputs(path, source, dataset, network); !s.ok()) return s;
  if (source->y().empty()) source->add_y("y");
  auto found = CheckTensor(absl::StrCat(path, ".y"), source->y(0), dataset);
  if (!found.ok()) return found.status();
  const v1::Tensor* y = *found;
  const v1::Tensor* x = FindTensor(dataset, source->x(0));
  if (x->shape(0) != y->shape(0)) {
    return Invalid(path, ": \"", source->x(0), "\" has ", x->shape(0), " samples, but \"",
                   source->y(0), "\" has ", y->shape(0));
  }
  const std::vector<int64_t> y_shape = SampleShape(*y);
  if (training.losses(0).has_sparse_categorical_crossentropy()) {
    const std::optional<DType> dtype = ParseDType(y->dtype());
    if (!dtype || *dtype == DType::kFloat32 || *dtype == DType::kFloat64) {
      return Invalid(path, ".y: labels must be integers, but \"", source->y(0), "\" is ",
                     y->dtype());
    }
    if (ElementCount(y_shape) != 1) {
      return Invalid(path, ".y: must hold one label a sample, but samples of \"", source->y(0),
                     "\" have shape ", ShapeString(y_shape));
    }
    const int64_t classes = network.output().size();
    if (y->min_value() < 0 || y->max_value() >= static_cast<double>(classes)) {
      return Invalid(path, ".y: labels of \"", source->y(0), "\" go from ", y->min_value(), " to ",
                     y->max_value(), ", but the model has classes 0 to ", classes - 1);
    }
  } else if (!ShapesFit(y_shape, network.output().dims())) {
    return Invalid(path, ".y: samples of \"", source->y(0), "\" have shape ", ShapeString(y_shape),
                   ", but the model's output is ", ShapeString(network.output().dims()));
  }
  return absl::OkStatus();
}

// An estimate in floating point, to refuse what would not even fit the exact arithmetic.
double RoughBytes(const Network& network, int64_t batch_size) {
  double values = static_cast<double>(network.input().size());
  for (const Network::Node& node : network.nodes()) {
    values += static_cast<double>(node.output.size());
  }
  return 4.0 * values * static_cast<double>(batch_size);
}

// `validation_samples` is 0 without validation.
int64_t EstimateMemory(const v1::JobSpec& spec, const Network& network,
                       int64_t validation_samples) {
  const v1::TrainingSpec& training = spec.training();
  const int threads =
      spec.resources().threads() > 0 ? spec.resources().threads() : kEstimateThreads;
  const Capacity capacity = {training.batch_size(), training.shards(), threads};
  const int64_t validation =
      validation_samples == 0
          ? 0
          : Evaluation::MemoryBytes(network, Loss(training.losses(0)), validation_samples, threads);
  const int64_t vectors = 1 + Optimizer::SlotCount(training.optimizer());
  // Beside the pass: parameters with the optimizer's vectors, buffers, and a copy being serialised.
  return TrainingPass::MemoryBytes(network, capacity, 1) + validation +
         static_cast<int64_t>(sizeof(float)) *
             ((vectors + 1) * network.parameters_size() + 2 * network.buffers_size());
}

std::string Fingerprint(v1::JobSpec spec, const v1::Dataset& train, const v1::Dataset* validation) {
  spec.clear_resources();
  spec.clear_publish_as();
  spec.mutable_data()->mutable_train()->set_dataset(DatasetDigest(train));
  if (validation != nullptr) {
    spec.mutable_data()->mutable_validation()->set_dataset(DatasetDigest(*validation));
  }
  return Sha256(absl::StrCat(kContract, "\n", spec.SerializeAsString()));
}

// The task that replaces BatchNorms' moving values, which needs inputs only.
absl::Status CheckPopulationStatistics(const Network& network, const v1::Dataset& train,
                                       int64_t max_memory_bytes, JobPlan* plan) {
  if (!plan->spec.has_initial_weights()) {
    return Invalid("initial_weights: is required: the trained model");
  }
  plan->total_steps = plan->steps_per_epoch = PopulationStatistics::Steps(plan->spec.model());
  if (plan->total_steps == 0) {
    return Invalid("model.layers: there is no batch_normalization that could get statistics");
  }
  v1::DataSpec& data = *plan->spec.mutable_data();
  if (data.has_validation()) {
    return Invalid("data.validation: means nothing to population_statistics");
  }
  if (auto s = CheckInputs("data.train", data.mutable_train(), train, network); !s.ok()) return s;
  const int64_t samples = FindTensor(train, data.train().x(0))->shape(0);
  const int threads =
      plan->spec.resources().threads() > 0 ? plan->spec.resources().threads() : kEstimateThreads;
  plan->memory_bytes = PopulationStatistics::MemoryBytes(network, samples, threads);
  if (plan->memory_bytes <= max_memory_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the statistics need about ", plan->memory_bytes / 1000000,
                   " MB, more than the ", max_memory_bytes / 1000000, " MB allowed here"));
}

}  // namespace

absl::StatusOr<JobPlan> PlanJob(const v1::JobSpec& spec, const v1::Dataset& train,
                                const v1::Dataset* validation, int64_t max_memory_bytes) {
  JobPlan plan;
  plan.spec = spec;
  auto network = Network::Build(plan.spec.mutable_model());
  if (!network.ok()) return network.status();
  if (plan.spec.has_initial_weights()) {
    if (auto s = CheckInitialWeights(*network, plan.spec.initial_weights()); !s.ok()) return s;
  }

  if (plan.spec.has_population_statistics()) {
    if (auto s = CheckPopulationStatistics(*network, train, max_memory_bytes, &plan); !s.ok()) {
      return s;
    }
    plan.fingerprint = Fingerprint(plan.spec, train, nullptr);
    return plan;
  }
  if (network->trainable_ranges().empty()) {
    return Invalid(
        "model.layers: no layer has weights that could be trained",
        network->parameters().empty() ? "" : "; trainable is false in all that have some");
  }

  v1::TrainingSpec& training = *plan.spec.mutable_training();
  if (auto s = CheckLoss(training, *network); !s.ok()) return s;
  if (auto s = CheckOptimizer(training.mutable_optimizer()); !s.ok()) return s;
  v1::DataSpec& data = *plan.spec.mutable_data();
  if (auto s = CheckSource("data.train", data.mutable_train(), train, training, *network);
      !s.ok()) {
    return s;
  }
  if (validation != nullptr) {
    if (auto s = CheckSource("data.validation", data.mutable_validation(), *validation, training,
                             *network);
        !s.ok()) {
      return s;
    }
  }

  const int64_t samples = FindTensor(train, data.train().x(0))->shape(0);
  if (training.batch_size() > samples) {
    return Invalid("training.batch_size: ", training.batch_size(), " is more than the ", samples,
                   " samples of data set \"", train.name(), "\"");
  }
  if (auto s = CheckRange("batch_size", training.batch_size(), 1, samples); !s.ok()) return s;
  if (auto s = CheckRange("epochs", training.epochs(), 1, kMaxSteps); !s.ok()) return s;
  if (auto s = CheckRange("max_steps", training.max_steps(), 0, kMaxSteps); !s.ok()) return s;
  if (auto s = CheckRange("shards", training.shards(), 0, kMaxShards); !s.ok()) return s;
  if (training.shards() == 0) training.set_shards(DefaultShards(training.batch_size()));
  if (auto s = CheckShardGroups(plan.spec.model(), training.shards()); !s.ok()) return s;
  if (!training.has_shuffle()) training.set_shuffle(true);
  if (auto s = CheckRange("log_every", training.log_every(), 0, kMaxSteps); !s.ok()) return s;
  if (training.log_every() == 0) training.set_log_every(50);
  if (spec.resources().threads() < 0 || spec.resources().threads() > ThreadPool::kMaxThreads) {
    return Invalid("resources.threads: must be within [0, ", ThreadPool::kMaxThreads, "], got ",
                   spec.resources().threads());
  }

  plan.steps_per_epoch = (samples + training.batch_size() - 1) / training.batch_size();
  if (training.epochs() > kMaxSteps / plan.steps_per_epoch) {
    return Invalid("training.epochs: ", training.epochs(), " epochs of ", plan.steps_per_epoch,
                   " steps are more than ", kMaxSteps, " steps");
  }
  plan.total_steps = training.epochs() * plan.steps_per_epoch;
  if (training.max_steps() > 0) plan.total_steps = std::min(plan.total_steps, training.max_steps());

  const double rough = RoughBytes(*network, training.batch_size());
  if (rough <= static_cast<double>(max_memory_bytes)) {
    const int64_t validation_samples =
        validation == nullptr ? 0 : FindTensor(*validation, data.validation().x(0))->shape(0);
    plan.memory_bytes = EstimateMemory(plan.spec, *network, validation_samples);
  }
  if (rough > static_cast<double>(max_memory_bytes) || plan.memory_bytes > max_memory_bytes) {
    const double estimate = std::max(rough, static_cast<double>(plan.memory_bytes));
    return absl::ResourceExhaustedError(
        absl::StrCat("training needs about ", static_cast<int64_t>(std::min(estimate, 9e18) / 1e6),
                     " MB, more than the ", max_memory_bytes / 1000000,
                     " MB allowed here; a smaller training.batch_size or model needs less"));
  }
  plan.fingerprint = Fingerprint(plan.spec, train, validation);
  return plan;
}

}  // namespace lockstep
