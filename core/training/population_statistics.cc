#include "core/training/population_statistics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/network/initial_weights.h"
#include "core/network/weights_file.h"
#include "core/numerics/float_environment.h"
#include "core/training/data_feed.h"
#include "core/training/input_moments.h"
#include "core/training/state_hash.h"

namespace lockstep {

PopulationStatistics::PopulationStatistics(const v1::ModelSpec& model, Network network,
                                           std::vector<TensorView> x, ThreadPool* pool)
    : model_(model),
      network_(std::move(network)),
      x_(std::move(x)),
      pool_(pool),
      parameters_(network_.parameters_size()),
      buffers_(network_.buffers_size()) {}

int64_t PopulationStatistics::Steps(const v1::ModelSpec& model) {
  return std::ranges::count_if(
      model.layers(), [](const v1::Layer& layer) { return layer.has_batch_normalization(); });
}

int64_t PopulationStatistics::MemoryBytes(const Network& network, int64_t samples, int threads) {
  // The weights, a snapshot of them, and a copy being serialised.
  return 3 * static_cast<int64_t>(sizeof(float)) *
             (network.parameters_size() + network.buffers_size()) +
         InputMomentsBytes(network, samples, threads);
}

absl::StatusOr<std::unique_ptr<JobRun>> PopulationStatistics::Create(
    const JobPlan& plan, const std::vector<TensorView>& x, ThreadPool* pool,
    std::string_view initial_weights) {
  if (kernels::Kernels() == nullptr) {
    return absl::FailedPreconditionError("this CPU has no AVX2 and FMA, which Lockstep needs");
  }
  v1::ModelSpec spec = plan.spec.model();
  auto network = Network::Build(&spec);
  if (!network.ok()) return network.status();
  std::unique_ptr<PopulationStatistics> run(
      new PopulationStatistics(spec, *std::move(network), x, pool));
  run->network_.Initialize(0, run->parameters_.span(), run->buffers_.span());
  auto read = ReadInitialWeights(run->network_, spec, plan.spec.initial_weights(), initial_weights,
                                 run->parameters_.span(), run->buffers_.span());
  if (!read.ok()) return read;
  auto checked = DataFeed::Create("data.train", {x, {}}, run->network_, {});
  if (!checked.ok()) return checked.status();
  return run;
}

absl::Status PopulationStatistics::Step() {
  ResetFloatEnvironment();
  while (!model_.layers(next_layer_).has_batch_normalization()) ++next_layer_;
  auto feed = DataFeed::Create("data.train", {x_, {}}, network_, {});
  if (!feed.ok()) return feed.status();
  const auto moments = InputMoments(network_, model_, next_layer_, parameters_.data(),
                                    buffers_.data(), *feed, feed->samples(), *pool_);
  if (!moments.ok()) return moments.status();
  auto set = SetStatistics(*moments, std::max(1.0, moments->count - 1), network_, next_layer_,
                           buffers_.span());
  if (!set.ok()) return set;
  const std::string& name = model_.layers(next_layer_++).name();
  ++step_;
  v1::StepRecord& record = *events_.emplace_back().mutable_step();
  record.set_step(step_);
  record.set_epoch(1);
  record.set_step_in_epoch(step_);
  v1::Text& text = *events_.emplace_back().mutable_text();
  text.set_text(absl::StrCat("\"", name, "\": mean and variance of ",
                             static_cast<int64_t>(moments->count), " values a channel"));
  text.set_step(step_);
  if (done()) {
    v1::EpochRecord& epoch = *events_.emplace_back().mutable_epoch();
    epoch.set_epoch(1);
    epoch.set_step(step_);
    epoch.set_state_hash(StateHash());
  }
  return absl::OkStatus();
}

std::string PopulationStatistics::StateHash() const {
  const std::span<const float> vectors[] = {parameters_.span(), buffers_.span()};
  return HashState(vectors, step_);
}

std::string PopulationStatistics::SerializeWeights() const {
  return WriteWeights(network_, model_, step_, parameters_.span(), buffers_.span());
}

RunSnapshot PopulationStatistics::Save() const {
  RunSnapshot snapshot;
  snapshot.state.set_step(step_);
  snapshot.state.set_next_layer(next_layer_);
  snapshot.Add("parameters", parameters_.span());
  snapshot.Add("buffers", buffers_.span());
  return snapshot;
}

absl::Status PopulationStatistics::Restore(const RunSnapshot& snapshot) {
  const v1::RunState& state = snapshot.state;
  const int next = state.next_layer();
  if (next < 0 || next > model_.layers_size() || snapshot.vectors.size() != 2 ||
      state.step() != std::ranges::count_if(model_.layers().begin(), model_.layers().begin() + next,
                                            &v1::Layer::has_batch_normalization)) {
    return absl::InvalidArgumentError(absl::StrCat("checkpoint: does not fit the job: step ",
                                                   state.step(), " before layer ", next, " with ",
                                                   snapshot.vectors.size(), " vectors"));
  }
  step_ = state.step();
  next_layer_ = next;
  absl::Status status = snapshot.CopyTo("parameters", parameters_.span());
  status.Update(snapshot.CopyTo("buffers", buffers_.span()));
  return status;
}

}  // namespace lockstep
