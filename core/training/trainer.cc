#include "core/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/inference/inference_pass.h"
#include "core/kernels/peaks.h"
#include "core/layers/row_sums.h"
#include "core/network/initial_weights.h"
#include "core/network/network.h"
#include "core/network/step_profile.h"
#include "core/network/training_pass.h"
#include "core/network/weights_file.h"
#include "core/numerics/float_environment.h"
#include "core/training/data_feed.h"
#include "core/training/evaluation.h"
#include "core/training/optimizer.h"
#include "core/training/records.h"
#include "core/training/shuffle.h"

namespace lockstep {
namespace {

// Steps that are measured when the job asks for a profile, after some that find caches and branch
// predictors cold.
constexpr int64_t kWarmUpSteps = 10;
constexpr int64_t kProfiledSteps = 50;

constexpr int64_t kFloat = sizeof(float);

void SetSamples(int64_t samples, Batch& batch) {
  batch.samples = samples;
  batch.global_samples = samples;
  const int shards = batch.shards();
  for (int v = 0; v <= shards; ++v) batch.shard_begin[v] = ShardBegin(samples, shards, v);
}

}  // namespace

struct Trainer::Impl {
  Impl(const JobPlan& p, Network n, DataFeed t, std::optional<DataFeed> v, ThreadPool* pool)
      : plan(p),
        training(plan.spec.training()),
        network(std::move(n)),
        train(std::move(t)),
        validation(std::move(v)),
        collective(training.shards()),
        loss(training.losses(0)),
        optimizer(training.optimizer(), network.parameters_size()),
        pass(network, Capacity{training.batch_size(), training.shards(), pool->threads()},
             static_cast<int>(collective.local_nodes().size()), loss.has_classes()),
        parameters(network.parameters_size()),
        buffers(network.buffers_size()),
        order(train.samples()),
        batch_labels(loss.has_classes() ? training.batch_size() : 0),
        batch_values(loss.has_classes() ? 0 : training.batch_size() * network.output().size()),
        losses(training.batch_size()),
        correct(training.batch_size()),
        block_sums(RowSumsBytes({training.batch_size(), training.shards()}, 1, 1)),
        node_sums(collective.local_nodes().size()),
        node_counts(collective.local_nodes().size()),
        recorder(plan, !training.metrics().empty()) {
    context.kernels = kernels::Kernels();
    context.pool = pool;
    context.collective = &collective;
    context.batch = &batch;
    context.seed = training.seed();
    batch.shard_begin.resize(training.shards() + 1);
    batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
    network.Initialize(training.seed(), parameters.span(), buffers.span());
    if (validation) evaluation.emplace(network, *validation, loss, *pool);
  }

  absl::Status Step();
  absl::StatusOr<BatchSums> TrainBatch(std::span<const int32_t> samples);
  absl::StatusOr<BatchSums> ComputeLoss(std::span<const int32_t> samples,
                                        TrainingPass::Loader load);
  void ApplyGradient();
  void BeginProfile();
  void EndProfile();
  double SumOverBatch(const float* values);
  absl::Status CheckFiniteState() const;
  std::string StateHash() const;

  const JobPlan plan;
  const v1::TrainingSpec& training;
  const Network network;
  const DataFeed train;
  const std::optional<DataFeed> validation;
  LocalCollective collective;
  const Loss loss;
  Optimizer optimizer;
  const std::vector<FlatRange> trainable_ranges = network.trainable_ranges();
  TrainingPass pass;
  AlignedBuffer<float> parameters;
  AlignedBuffer<float> buffers;
  std::vector<int32_t> order;  // of the samples in the running epoch
  std::vector<int32_t> batch_labels;
  std::vector<float> batch_values;
  std::vector<float> losses;
  std::vector<float> correct;
  AlignedBuffer<std::byte> block_sums;
  std::vector<double> node_sums;
  std::vector<int64_t> node_counts;
  std::optional<Evaluation> evaluation;
  Recorder recorder;
  Batch batch;
  StepContext context;
  int64_t step = 0;
  const int64_t first_profiled_step = std::min(kWarmUpSteps, plan.total_steps - 1);  // from 0
  std::unique_ptr<StepProfile> profile;  // while steps are measured
};

// Over all shards, as the contract sums across samples (rule 2).
double Trainer::Impl::SumOverBatch(const float* values) {
  for (size_t i = 0; i < node_counts.size(); ++i) {
    node_counts[i] = context.batch->node_samples(context.batch->nodes[i]);
  }
  CombineNodeSums(context, values, nullptr, nullptr, 1, 1, 1, block_sums.data(), node_sums.data(),
                  1);
  collective.CombineSums(1, node_sums, node_counts);
  return node_sums[0];
}

// The loss of what Forward gave, and its gradient.
absl::StatusOr<BatchSums> Trainer::Impl::ComputeLoss(std::span<const int32_t> samples,
                                                     TrainingPass::Loader load) {
  const int64_t columns = network.output().size();
  const StepTimer timer(profile.get(), StepPart::kLoss, 2 * batch.samples * columns * kFloat);
  if (loss.has_classes()) {
    train.Labels(samples, batch_labels.data());
  } else {
    train.Values(samples, batch_values.data());
  }
  const Targets targets = {batch_labels.data(), batch_values.data()};
  const float scale = 1.0f / static_cast<float>(batch.global_samples);
  loss.Compute(*context.kernels, batch.samples, columns, pass.output(), targets, scale,
               losses.data(), pass.output_gradient());
  BatchSums sums = {.samples = batch.global_samples, .loss = SumOverBatch(losses.data())};
  if (!std::isfinite(sums.loss)) {
    const Network::Node* node =
        pass.FirstNonFinite(context, parameters.data(), buffers.span(), load);
    return absl::FailedPreconditionError(
        absl::StrCat("the loss is no longer finite at step ", step + 1,
                     node == nullptr ? ""
                                     : absl::StrCat("; the first layer with such values is \"",
                                                    node->name, "\" (", node->path, ")"),
                     "; a smaller learning_rate may help"));
  }
  if (!training.metrics().empty()) {
    MarkCorrect(batch.samples, columns, pass.output(), targets.labels, correct.data());
    sums.correct = SumOverBatch(correct.data());
  }
  return sums;
}

void Trainer::Impl::ApplyGradient() {
  // Reads the gradient; reads and writes parameters and slots.
  const int64_t vectors = 1 + 2 * (1 + std::ssize(optimizer.slots()));
  const StepTimer timer(profile.get(), StepPart::kOptimizer,
                        vectors * network.parameters_size() * kFloat);
  for (const FlatRange& range : trainable_ranges) {
    optimizer.Apply(*context.kernels, *context.pool, step + 1, range, pass.gradient(),
                    parameters.span());
  }
}

absl::StatusOr<BatchSums> Trainer::Impl::TrainBatch(std::span<const int32_t> samples) {
  const StepTimer timer(profile.get(), StepPart::kStep, std::ssize(samples));
  context.step = step;
  const auto load = [&](const Tile& tile, float* x) {
    train.Inputs(*context.kernels, samples.subspan(tile.begin, tile.samples), x);
  };
  pass.Forward(context, parameters.data(), buffers.data(), load);
  absl::StatusOr<BatchSums> sums = ComputeLoss(samples, load);
  if (!sums.ok()) return sums;
  pass.Backward(context, parameters.data());
  pass.Reduce(context);
  ApplyGradient();
  return sums;
}

// Before a step: starts to measure if it is time.
void Trainer::Impl::BeginProfile() {
  if (!plan.spec.resources().profile() || step != first_profiled_step) return;
  profile = std::make_unique<StepProfile>(network, pass.plan(), context.pool->threads());
  pass.set_profile(profile.get());
}

// After a step: reports if enough have been measured.
void Trainer::Impl::EndProfile() {
  if (profile == nullptr) return;
  if (step < first_profiled_step + kProfiledSteps && step < plan.total_steps) return;
  recorder.AddProfile(
      profile->Describe(first_profiled_step + 1, step, MeasurePeaks(*context.pool)));
  pass.set_profile(nullptr);
  profile.reset();
}

absl::Status Trainer::Impl::Step() {
  ResetFloatEnvironment();
  recorder.BeginStep();
  const int64_t in_epoch = step % plan.steps_per_epoch;
  const int64_t epoch = step / plan.steps_per_epoch + 1;
  if (in_epoch == 0) {
    if (training.shuffle()) {
      ShuffledOrder(training.seed(), epoch, order);
    } else {
      std::iota(order.begin(), order.end(), 0);
    }
  }
  const int64_t first = in_epoch * training.batch_size();
  const int64_t samples = std::min(training.batch_size(), train.samples() - first);
  SetSamples(samples, batch);
  BeginProfile();
  auto sums = TrainBatch(std::span(order).subspan(first, samples));
  if (!sums.ok()) return sums.status();
  if (auto s = collective.status(); !s.ok()) return s;
  ++step;
  recorder.EndStep(step, *sums, optimizer.learning_rate());
  EndProfile();
  if (step % plan.steps_per_epoch == 0 || step == plan.total_steps) {
    if (auto s = CheckFiniteState(); !s.ok()) return s;
    std::optional<Evaluation::Result> validated;
    if (evaluation) {
      validated =
          evaluation->Run(*context.kernels, *context.pool, parameters.data(), buffers.data());
    }
    recorder.EndEpoch(step, epoch, validated, StateHash());
  }
  return absl::OkStatus();
}

// A step can overflow what no later loss will show: the last one's weights, a moving variance.
absl::Status Trainer::Impl::CheckFiniteState() const {
  const auto check = [&](std::span<const NetworkTensor> tensors, const float* flat) {
    for (const NetworkTensor& tensor : tensors) {
      const float* values = flat + tensor.offset;
      if (!std::all_of(values, values + tensor.size, [](float v) { return std::isfinite(v); })) {
        return absl::FailedPreconditionError(
            absl::StrCat("\"", tensor.name, "\" has values that are not finite after step ", step,
                         "; a smaller learning_rate may help"));
      }
    }
    return absl::OkStatus();
  };
  absl::Status status = check(network.parameters(), parameters.data());
  status.Update(check(network.buffers(), buffers.data()));
  return status;
}

std::string Trainer::Impl::StateHash() const {
  Hasher hasher(Hasher::Algorithm::kBlake2s256);
  hasher.Update(std::as_bytes(parameters.span()));
  hasher.Update(std::as_bytes(buffers.span()));
  for (const AlignedBuffer<float>& slot : optimizer.slots()) {
    hasher.Update(std::as_bytes(slot.span()));
  }
  hasher.Update(std::as_bytes(std::span(&step, 1)));
  return hasher.Finish();
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(
    const JobPlan& plan, const LabelledData& train, const std::optional<LabelledData>& validation,
    ThreadPool* pool, std::string_view initial_weights) {
  if (kernels::Kernels() == nullptr) {
    return absl::FailedPreconditionError("this CPU has no AVX2 and FMA, which Lockstep needs");
  }
  v1::ModelSpec spec = plan.spec.model();
  auto network = Network::Build(&spec);
  if (!network.ok()) return network.status();
  const int64_t classes =
      Loss(plan.spec.training().losses(0)).has_classes() ? network->output().size() : 0;
  auto train_feed = DataFeed::Create("data.train", train, *network, classes);
  if (!train_feed.ok()) return train_feed.status();
  std::optional<DataFeed> validation_feed;
  if (validation) {
    auto feed = DataFeed::Create("data.validation", *validation, *network, classes);
    if (!feed.ok()) return feed.status();
    validation_feed = *std::move(feed);
  }
  auto impl = std::make_unique<Impl>(plan, *std::move(network), *std::move(train_feed),
                                     std::move(validation_feed), pool);
  if (plan.spec.has_initial_weights()) {
    auto s = ReadInitialWeights(impl->network, plan.spec.model(), plan.spec.initial_weights(),
                                initial_weights, impl->parameters.span(), impl->buffers.span());
    if (!s.ok()) return s;
  }
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;

bool Trainer::done() const { return impl_->step == impl_->plan.total_steps; }
int64_t Trainer::step() const { return impl_->step; }
absl::Status Trainer::Step() { return impl_->Step(); }
std::vector<v1::Event> Trainer::TakeEvents() { return impl_->recorder.Take(); }
std::string Trainer::StateHash() const { return impl_->StateHash(); }

std::string Trainer::SerializeWeights() const {
  return WriteWeights(impl_->network, impl_->plan.spec.model(), impl_->step,
                      impl_->parameters.span(), impl_->buffers.span());
}

}  // namespace lockstep
