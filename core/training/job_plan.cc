#include "core/training/job_plan.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/data/tensor.h"
#include "core/keras/keras_model.h"
#include "core/network/network.h"
#include "core/network/training_pass.h"
#include "core/parallel/shards.h"
#include "core/parallel/thread_pool.h"
#include "core/training/evaluation.h"
#include "core/training/optimizer_checks.h"
#include "core/training/parameter_update.h"

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

absl::Status CheckSource(absl::string_view path, v1::DataSource* source, const v1::Dataset& dataset,
                         const v1::TrainingSpec& training, const Network& network) {
  if (source->x().empty()) source->add_x("x");
  if (source->y().empty()) source->add_y("y");
  const v1::Tensor* x = FindTensor(dataset, source->x(0));
  const v1::Tensor* y = FindTensor(dataset, source->y(0));
  for (const auto& [field, name, tensor] :
       {std::tuple("x", source->x(0), x), std::tuple("y", source->y(0), y)}) {
    if (tensor == nullptr) {
      std::string names;
      for (const v1::Tensor& t : dataset.tensors()) {
        absl::StrAppend(&names, names.empty() ? "" : ", ", t.name());
      }
      return Invalid(path, ".", field, ": data set \"", dataset.name(), "\" has no tensor \"", name,
                     "\"; it has ", names);
    }
    if (tensor->shape().empty() || tensor->shape(0) < 1) {
      return Invalid(path, ".", field, ": \"", name, "\" has no samples");
    }
    if (tensor->shape(0) > kMaxSamples) {
      return Invalid(path, ".", field, ": \"", name, "\" has ", tensor->shape(0),
                     " samples; at most ", kMaxSamples);
    }
  }
  if (x->shape(0) != y->shape(0)) {
    return Invalid(path, ": \"", source->x(0), "\" has ", x->shape(0), " samples, but \"",
                   source->y(0), "\" has ", y->shape(0));
  }
  const auto sample_shape = [](const v1::Tensor& tensor) {
    return std::vector<int64_t>(tensor.shape().begin() + 1, tensor.shape().end());
  };
  const std::vector<int64_t> x_shape = sample_shape(*x);
  if (!ShapesFit(x_shape, network.input().dims())) {
    return Invalid(path, ".x: samples of \"", source->x(0), "\" have shape ", ShapeString(x_shape),
                   ", but model.inputs[0].shape is ", ShapeString(network.input().dims()));
  }
  const std::vector<int64_t> y_shape = sample_shape(*y);
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
  // Copies of the weights: those trained, one being serialised, perhaps those of the best epoch.
  const int64_t copies = training.early_stopping().restore_best_weights() ? 3 : 2;
  return TrainingPass::MemoryBytes(network, capacity, 1) + validation +
         static_cast<int64_t>(sizeof(float)) *
             ((copies + ParameterUpdate::SlotCount(training)) * network.parameters_size() +
              copies * network.buffers_size());
}

// Puts the model that keras_model describes in its place.
absl::Status ConvertKerasModel(v1::JobSpec* spec) {
  if (spec->keras_model().empty()) return absl::OkStatus();
  if (spec->has_model()) return Invalid("keras_model: stands instead of model; both are given");
  absl::StatusOr<v1::ModelSpec> model = ModelFromKeras(spec->keras_model(), "keras_model");
  if (!model.ok()) return model.status();
  *spec->mutable_model() = *std::move(model);
  spec->clear_keras_model();
  return absl::OkStatus();
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

}  // namespace

absl::StatusOr<JobPlan> PlanJob(const v1::JobSpec& spec, const v1::Dataset& train,
                                const v1::Dataset* validation, int64_t max_memory_bytes) {
  JobPlan plan;
  plan.spec = spec;
  if (auto s = ConvertKerasModel(&plan.spec); !s.ok()) return s;
  auto network = Network::Build(plan.spec.mutable_model());
  if (!network.ok()) return network.status();
  if (network->parameters().empty()) {
    return Invalid("model.layers: no layer has weights that could be trained");
  }

  v1::TrainingSpec& training = *plan.spec.mutable_training();
  if (auto s = CheckLoss(training, *network); !s.ok()) return s;
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
  if (auto s = CheckOptimization(*network, validation != nullptr, plan.total_steps, &training);
      !s.ok()) {
    return s;
  }

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
