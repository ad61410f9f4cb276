#include "core/training/trainer.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/inference/inference_pass.h"
#include "core/kernels/peaks.h"
#include "core/network/initial_weights.h"
#include "core/network/network.h"
#include "core/network/step_profile.h"
#include "core/network/training_pass.h"
#include "core/network/weights_file.h"
#include "core/numerics/float_environment.h"
#include "core/training/augmentation.h"
#include "core/training/batch_norm_report.h"
#include "core/training/data_feed.h"
#include "core/training/early_stopping.h"
#include "core/training/evaluation.h"
#include "core/training/finite_guard.h"
#include "core/training/input_moments.h"
#include "core/training/learning_rate.h"
#include "core/training/parameter_update.h"
#include "core/training/records.h"
#include "core/training/shuffle.h"
#include "core/training/state_hash.h"
#include "core/training/training_loss.h"
#include "core/training/weight_report.h"

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
  Impl(const JobPlan& p, Network n, std::vector<Objective> o, DataFeed t, std::optional<DataFeed> v,
       ThreadPool* pool)
      : plan(p),
        training(plan.spec.training()),
        network(std::move(n)),
        objectives(std::move(o)),
        train(std::move(t)),
        validation(std::move(v)),
        collective(training.shards()),
        augmentation(training.augmentation(), network.inputs(), training.seed()),
        learning_rate(training, plan.steps_per_epoch, plan.total_steps),
        update(training, network),
        pass(network, Capacity{training.batch_size(), training.shards(), pool->threads()},
             static_cast<int>(collective.local_nodes().size()), TakenActivations(objectives)),
        loss(objectives, train, plan.train_samples,
             Capacity{training.batch_size(), training.shards(), pool->threads()},
             static_cast<int>(collective.local_nodes().size())),
        parameters(network.parameters_size()),
        buffers(network.buffers_size()),
        order(plan.train_samples),
        recorder(plan, loss.StepNames(), *pool) {
    context.kernels = kernels::Kernels();
    context.pool = pool;
    context.collective = &collective;
    context.batch = &batch;
    context.seed = training.seed();
    batch.shard_begin.resize(training.shards() + 1);
    batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
    network.Initialize(training.seed(), parameters.span(), buffers.span());
    if (validation) {
      evaluation.emplace(network, objectives, *validation, 0, plan.validation_samples, *pool);
    } else if (plan.validation_samples > 0) {
      evaluation.emplace(network, objectives, train, plan.train_samples, plan.validation_samples,
                         *pool);
    }
    if (training.has_early_stopping()) early_stopping.emplace(training.early_stopping(), network);
  }

  bool done() const { return stopped_early || step == plan.total_steps; }
  // The weights that validation and publication use.
  std::span<const float> published() const {
    return training.has_ema() && step > 0 ? update.average() : parameters.span();
  }
  std::span<float> published() {
    return training.has_ema() && step > 0 ? update.average() : parameters.span();
  }

  absl::Status Step();
  absl::Status TrainBatch(int64_t first, int64_t samples);
  absl::Status ComputeLoss(std::span<const int32_t> samples, int64_t first,
                           TrainingPass::Loader load);
  void ApplyGradient();
  // Of the batch that context.step is about: its samples, and its inputs.
  std::span<const int32_t> BatchSamples() const;
  void Load(const Tile& tile, float* x) const;
  absl::Status EndEpoch(int64_t epoch);
  void Report(int64_t epoch);
  void ReportBatchNorm(int64_t epoch, bool warns);
  void BeginProfile();
  void EndProfile();
  std::string StateHash() const;
  void OrderSamples();
  RunSnapshot Save() const;
  absl::Status Restore(const RunSnapshot& snapshot);

  const JobPlan plan;
  const v1::TrainingSpec& training;
  const Network network;
  const std::vector<Objective> objectives;  // by output
  const DataFeed train;
  const std::optional<DataFeed> validation;
  LocalCollective collective;
  const Augmentation augmentation;
  LearningRate learning_rate;
  ParameterUpdate update;
  TrainingPass pass;
  TrainingLoss loss;
  AlignedBuffer<float> parameters;
  AlignedBuffer<float> buffers;
  std::vector<int32_t> order;  // of the samples in the running epoch
  FiniteGuard guard;
  std::optional<Evaluation> evaluation;
  std::optional<EarlyStopping> early_stopping;
  Recorder recorder;
  Batch batch;
  StepContext context;
  int64_t step = 0;
  double gradient_norm = 0;  // of the last step that ended a record
  bool stopped_early = false;
  int64_t first_profiled_step = std::min(kWarmUpSteps, plan.total_steps - 1);  // from 0
  std::unique_ptr<StepProfile> profile;  // while steps are measured
};

// The loss of what Forward gave, and its gradient.
absl::Status Trainer::Impl::ComputeLoss(std::span<const int32_t> samples, int64_t first,
                                        TrainingPass::Loader load) {
  const StepTimer timer(profile.get(), StepPart::kLoss,
                        2 * batch.samples * network.output().size() * kFloat);
  const double penalty = update.Penalty(*context.pool, parameters.span());
  const double value = loss.Compute(context, samples, first, penalty, pass);
  return guard.SeeLoss(step, value, [&] {
    return pass.FirstNonFinite(context, parameters.data(), buffers.span(), load);
  });
}

void Trainer::Impl::ApplyGradient() {
  // Reads the gradient; reads and writes parameters and slots.
  const int64_t vectors = 1 + 2 * (1 + ParameterUpdate::SlotCount(training));
  const StepTimer timer(profile.get(), StepPart::kOptimizer,
                        vectors * network.parameters_size() * kFloat);
  update.Apply(*context.kernels, *context.pool, step + 1, learning_rate.At(step), pass.gradient(),
               parameters.span(), recorder.EndsRecord(step + 1) ? &gradient_norm : nullptr);
}

std::span<const int32_t> Trainer::Impl::BatchSamples() const {
  const int64_t first = context.step % plan.steps_per_epoch * training.batch_size();
  return std::span<const int32_t>(order).subspan(first, batch.samples);
}

void Trainer::Impl::Load(const Tile& tile, float* x) const {
  const int64_t epoch = context.step / plan.steps_per_epoch + 1;
  const std::span<const int32_t> loaded = BatchSamples().subspan(tile.begin, tile.samples);
  train.Inputs(*context.kernels, loaded, x);
  for (int32_t sample : loaded) {
    augmentation.Apply(epoch, sample, x);
    x += network.input().size();
  }
}

// On `samples` samples of the epoch from number `first` on.
absl::Status Trainer::Impl::TrainBatch(int64_t first, int64_t samples) {
  const StepTimer timer(profile.get(), StepPart::kStep, samples);
  context.step = step;
  const auto load = [&](const Tile& tile, float* x) { Load(tile, x); };
  pass.Forward(context, parameters.data(), buffers.data(), load);
  if (auto s = ComputeLoss(BatchSamples(), first, load); !s.ok()) return s;
  pass.Backward(context, parameters.data());
  recorder.BeginReduction();
  pass.Reduce(context);
  recorder.EndReduction();
  ApplyGradient();
  return absl::OkStatus();
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
  if (step < first_profiled_step + kProfiledSteps && !done()) return;
  recorder.AddProfile(
      profile->Describe(first_profiled_step + 1, step, MeasurePeaks(*context.pool)));
  pass.set_profile(nullptr);
  profile.reset();
}

// Of the epoch of the next step.
void Trainer::Impl::OrderSamples() {
  if (training.shuffle()) {
    ShuffledOrder(training.seed(), step / plan.steps_per_epoch + 1, order);
  } else {
    std::iota(order.begin(), order.end(), 0);
  }
}

absl::Status Trainer::Impl::Step() {
  ResetFloatEnvironment();
  recorder.BeginStep();
  const int64_t in_epoch = step % plan.steps_per_epoch;
  const int64_t epoch = step / plan.steps_per_epoch + 1;
  if (in_epoch == 0) OrderSamples();
  const int64_t first = in_epoch * training.batch_size();
  const int64_t samples = std::min(training.batch_size(), plan.train_samples - first);
  SetSamples(samples, batch);
  BeginProfile();
  if (auto s = TrainBatch(first, samples); !s.ok()) return s;
  if (auto s = collective.status(); !s.ok()) return s;
  const double rate = learning_rate.At(step++);
  recorder.EndStep(step, samples, loss.StepValues(), rate, gradient_norm);
  if (step % plan.steps_per_epoch == 0 || step == plan.total_steps) {
    if (auto s = EndEpoch(epoch); !s.ok()) return s;
  }
  EndProfile();
  return absl::OkStatus();
}

// After the last step of an epoch, or of all.
absl::Status Trainer::Impl::EndEpoch(int64_t epoch) {
  if (auto s = guard.CheckState(step, network, parameters.span(), buffers.span()); !s.ok()) {
    return s;
  }
  std::vector<v1::Metric> validated;
  if (evaluation) {
    validated =
        evaluation->Run(*context.kernels, *context.pool, published().data(), buffers.data());
    v1::Metric& total = validated.front();
    total.set_value(total.value() + update.Penalty(*context.pool, published()));
  }
  const v1::EpochRecord& record = recorder.EndEpoch(step, epoch, learning_rate.At(step - 1),
                                                    loss.EndEpoch(), validated, StateHash());
  learning_rate.EndEpoch(record);
  if (early_stopping) {
    stopped_early = early_stopping->EndEpoch(record, published(), buffers.span());
  }
  Report(epoch);
  if (early_stopping && done()) {
    std::string text = early_stopping->Finish(published(), buffers.span());
    if (!text.empty()) recorder.AddText(step, v1::Text::INFO, std::move(text));
  }
  return collective.status();
}

void Trainer::Impl::Report(int64_t epoch) {
  const BatchNormSchedule schedule(plan.steps_per_epoch);
  if (!schedule.Reports(epoch, done())) return;
  v1::WeightReport weights =
      DescribeWeights(network, *context.pool, std::as_const(*this).published(), buffers.span());
  weights.set_epoch(epoch);
  weights.set_step(step);
  recorder.AddWeights(std::move(weights));
  ReportBatchNorm(epoch, schedule.Warns(epoch, done()));
}

// On the last batch once more, with the weights after its step.
void Trainer::Impl::ReportBatchNorm(int64_t epoch, bool warns) {
  const double penalty = update.Penalty(*context.pool, parameters.span());
  std::optional<v1::BatchNormReport> report = MeasureBatchNorm(
      network, context, parameters.data(), buffers.span(), pass,
      [&](const Tile& tile, float* x) { Load(tile, x); },
      [&] { return loss.Probe(context, BatchSamples(), penalty, pass); });
  if (!report) return;
  report->set_epoch(epoch);
  report->set_step(step);
  std::string warning = warns ? DescribeDisagreement(*report) : "";
  recorder.AddBatchNorm(*std::move(report));
  if (!warning.empty()) recorder.AddText(step, v1::Text::WARNING, std::move(warning));
}

std::string Trainer::Impl::StateHash() const {
  std::vector<std::span<const float>> vectors = {parameters.span(), buffers.span()};
  for (const AlignedBuffer<float>& slot : update.slots()) vectors.push_back(slot.span());
  vectors.push_back(update.average());
  return HashState(vectors, step);
}

RunSnapshot Trainer::Impl::Save() const {
  RunSnapshot snapshot;
  snapshot.state.set_step(step);
  snapshot.state.set_stopped_early(stopped_early);
  guard.Save(&snapshot.state);
  snapshot.Add("parameters", parameters.span());
  snapshot.Add("buffers", buffers.span());
  update.Save(&snapshot);
  loss.Save(&snapshot);
  recorder.Save(snapshot.state.mutable_recorder());
  learning_rate.Save(snapshot.state.mutable_learning_rate());
  if (early_stopping) early_stopping->Save(&snapshot);
  return snapshot;
}

absl::Status Trainer::Impl::Restore(const RunSnapshot& snapshot) {
  const v1::RunState& state = snapshot.state;
  if (state.step() < 0 || state.step() > plan.total_steps) {
    return absl::InvalidArgumentError(absl::StrCat("checkpoint: does not fit the job: step ",
                                                   state.step(), " of ", plan.total_steps));
  }
  step = state.step();
  stopped_early = state.stopped_early();
  absl::Status status = guard.Restore(state);
  status.Update(snapshot.CopyTo("parameters", parameters.span()));
  status.Update(snapshot.CopyTo("buffers", buffers.span()));
  status.Update(update.Restore(snapshot));
  // The last epoch ends with the job.
  const int64_t in_epoch = done() ? 0 : step % plan.steps_per_epoch;
  status.Update(loss.Restore(snapshot, in_epoch * training.batch_size()));
  status.Update(recorder.Restore(state.recorder()));
  status.Update(learning_rate.Restore(state.learning_rate()));
  if (early_stopping) status.Update(early_stopping->Restore(snapshot));
  if (status.ok() && snapshot.vectors.size() != Save().vectors.size()) {
    status = absl::InvalidArgumentError("checkpoint: has vectors that the job does not have");
  }
  if (in_epoch > 0) OrderSamples();
  first_profiled_step = std::min(step + kWarmUpSteps, plan.total_steps - 1);
  return status;
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
  std::vector<Objective> objectives = MakeObjectives(plan.spec.training(), *network);
  auto train_feed = DataFeed::Create("data.train", train, *network, objectives);
  if (!train_feed.ok()) return train_feed.status();
  std::optional<DataFeed> validation_feed;
  if (validation) {
    auto feed = DataFeed::Create("data.validation", *validation, *network, objectives);
    if (!feed.ok()) return feed.status();
    validation_feed = *std::move(feed);
  }
  auto impl = std::make_unique<Impl>(plan, *std::move(network), std::move(objectives),
                                     *std::move(train_feed), std::move(validation_feed), pool);
  ResetFloatEnvironment();
  auto adapted = AdaptNormalizations(impl->network, spec, impl->parameters.data(),
                                     impl->buffers.span(), impl->train, plan.train_samples, *pool);
  if (!adapted.ok()) return adapted;
  if (plan.spec.has_initial_weights()) {
    auto s = ReadInitialWeights(impl->network, plan.spec.model(), plan.spec.initial_weights(),
                                initial_weights, impl->parameters.span(), impl->buffers.span());
    if (!s.ok()) return s;
  }
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;

bool Trainer::done() const { return impl_->done(); }
int64_t Trainer::step() const { return impl_->step; }
absl::Status Trainer::Step() { return impl_->Step(); }
std::vector<v1::Event> Trainer::TakeEvents() { return impl_->recorder.Take(); }
std::string Trainer::StateHash() const { return impl_->StateHash(); }

std::string Trainer::SerializeWeights() const {
  return WriteWeights(impl_->network, impl_->plan.spec.model(), impl_->step,
                      std::as_const(*impl_).published(), impl_->buffers.span());
}

RunSnapshot Trainer::Save() const { return impl_->Save(); }
absl::Status Trainer::Restore(const RunSnapshot& snapshot) { return impl_->Restore(snapshot); }

}  // namespace lockstep
