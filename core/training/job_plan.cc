#include "core/training/job_plan.h"

#include <algorithm>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/keras/keras_model.h"
#include "core/network/initial_weights.h"
#include "core/network/network.h"
#include "core/network/training_pass.h"
#include "core/parallel/shards.h"
#include "core/parallel/thread_pool.h"
#include "core/training/data_checks.h"
#include "core/training/evaluation.h"
#include "core/training/input_moments.h"
#include "core/training/optimizer_checks.h"
#include "core/training/output_checks.h"
#include "core/training/parameter_update.h"
#include "core/training/population_statistics.h"
#include "core/training/training_loss.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 31;  // the random numbers' counter has 32 bits of step
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

// An estimate in floating point, to refuse what would not even fit the exact arithmetic.
double RoughBytes(const Network& network, int64_t batch_size) {
  double values = static_cast<double>(network.input().size());
  for (const Network::Node& node : network.nodes()) {
    values += static_cast<double>(node.output.size());
  }
  return 4.0 * values * static_cast<double>(batch_size);
}

int64_t EstimateMemory(const v1::JobSpec& spec, const Network& network,
                       std::span<const Objective> objectives, const SampleCounts& samples) {
  const v1::TrainingSpec& training = spec.training();
  const int threads =
      spec.resources().threads() > 0 ? spec.resources().threads() : kEstimateThreads;
  const Capacity capacity = {training.batch_size(), training.shards(), threads};
  const int64_t validation =
      samples.validation == 0
          ? 0
          : Evaluation::MemoryBytes(network, objectives, samples.validation, threads);
  const int64_t moments = std::ranges::any_of(spec.model().layers(), TakesStatistics)
                              ? InputMomentsBytes(network, samples.train, threads)
                              : 0;
  // Copies of the weights: those trained, one being serialised, perhaps those of the best epoch.
  const int64_t copies = training.early_stopping().restore_best_weights() ? 3 : 2;
  // A snapshot, and the file that it becomes.
  int64_t saved = static_cast<int64_t>(sizeof(float)) *
                  ((copies - 1 + ParameterUpdate::SlotCount(training)) * network.parameters_size() +
                   (copies - 1) * network.buffers_size());
  for (const Objective& objective : objectives) {
    saved += Scores::MemoryBytes(objective, samples.train);
  }
  return 2 * saved + TrainingPass::MemoryBytes(network, capacity, 1) +
         TrainingLoss::MemoryBytes(objectives, samples.train, capacity) + validation + moments +
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
  spec.clear_labels();
  spec.clear_priority();
  spec.clear_checkpoints();
  spec.clear_verification();
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
  const auto samples = CheckInputs("data.train", train, network, data.mutable_train());
  if (!samples.ok()) return samples.status();
  const int threads =
      plan->spec.resources().threads() > 0 ? plan->spec.resources().threads() : kEstimateThreads;
  plan->memory_bytes = PopulationStatistics::MemoryBytes(network, *samples, threads);
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
  if (auto s = ConvertKerasModel(&plan.spec); !s.ok()) return s;
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
  if (auto s = CheckOutputs(*network, &training); !s.ok()) return s;
  const std::vector<Objective> objectives = MakeObjectives(training, *network);
  const auto counts = CheckData(*network, objectives, train, validation, plan.spec.mutable_data());
  if (!counts.ok()) return counts.status();
  plan.train_samples = counts->train;
  plan.validation_samples = counts->validation;

  const int64_t samples = counts->train;
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
  if (auto s =
          CheckOptimization(*network, plan.validation_samples > 0, plan.total_steps, &training);
      !s.ok()) {
    return s;
  }

  const double rough = RoughBytes(*network, training.batch_size());
  if (rough <= static_cast<double>(max_memory_bytes)) {
    plan.memory_bytes = EstimateMemory(plan.spec, *network, objectives, *counts);
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
