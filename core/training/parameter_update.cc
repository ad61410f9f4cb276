#include "core/training/parameter_update.h"

#include <algorithm>

#include "core/layers/rows.h"

namespace lockstep {
namespace {

// A tensor's name without its layer's says what it is, for all layers alike.
bool Decays(const v1::WeightDecay& spec, const NetworkTensor& tensor) {
  const std::string& name = tensor.spec.name;
  if (name == "bias") return spec.include_bias();
  if (name == "gamma" || name == "beta") return spec.include_normalization();
  return true;
}

double DecayRate(const v1::WeightDecay& spec, const std::string& layer) {
  for (const v1::WeightDecay::Group& group : spec.groups()) {
    if (std::find(group.layers().begin(), group.layers().end(), layer) != group.layers().end()) {
      return group.rate();
    }
  }
  return spec.rate();
}

}  // namespace

ParameterUpdate::ParameterUpdate(const v1::TrainingSpec& spec, const Network& network)
    : regularization_(network),
      clipping_(spec.gradient_clipping(), network),
      decays_(FindDecays(spec.weight_decay(), network)),
      optimizer_(spec.optimizer(), network.parameters_size()),
      trainable_(network.trainable_ranges()),
      average_weight_(static_cast<float>(1.0 - spec.ema().momentum())),
      average_(spec.has_ema() ? network.parameters_size() : 0) {}

int ParameterUpdate::SlotCount(const v1::TrainingSpec& spec) {
  return Optimizer::SlotCount(spec.optimizer()) + (spec.has_ema() ? 1 : 0);
}

std::vector<ParameterUpdate::Decay> ParameterUpdate::FindDecays(const v1::WeightDecay& spec,
                                                                const Network& network) {
  std::vector<double> rates(network.parameters().size());
  for (const Network::Node& node : network.nodes()) {
    for (int i = 0; i < node.parameter_count; ++i) {
      const int t = node.first_parameter + i;
      if (Decays(spec, network.parameters()[t])) rates[t] = DecayRate(spec, node.name);
    }
  }
  std::vector<Decay> decays;
  for (const ParameterBlock& block :
       CutIntoBlocks(network, [](const NetworkTensor&) { return true; })) {
    if (rates[block.tensor] > 0) decays.push_back({block, rates[block.tensor]});
  }
  return decays;
}

void ParameterUpdate::Apply(const kernels::KernelTable& kernels, ThreadPool& pool, int64_t step,
                            double learning_rate, std::span<float> gradient,
                            std::span<float> parameters, double* gradient_norm) {
  regularization_.AddGradient(pool, parameters, gradient);
  clipping_.Apply(pool, gradient, gradient_norm);
  DecayWeights(pool, learning_rate, parameters);
  for (const FlatRange& range : trainable_) {
    optimizer_.Apply(kernels, pool, step, learning_rate, range, gradient, parameters);
  }
  if (average_.size() > 0) UpdateAverage(pool, step, parameters);
}

void ParameterUpdate::DecayWeights(ThreadPool& pool, double learning_rate,
                                   std::span<float> parameters) const {
  if (decays_.empty()) return;
  pool.ParallelFor(std::ssize(decays_), [&](int64_t i, int) {
    const auto [block, rate] = decays_[i];
    const auto part = static_cast<float>(learning_rate * rate);
    for (float& w : parameters.subspan(block.begin, block.size)) w = w - part * w;
  });
}

void ParameterUpdate::UpdateAverage(ThreadPool& pool, int64_t step,
                                    std::span<const float> parameters) {
  constexpr int64_t kLeast = 4096;  // parameters worth a piece of their own
  ParallelRows(pool, average_.size(), kLeast, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float& a = average_.data()[i];
      a = step == 1 ? parameters[i] : a + (parameters[i] - a) * average_weight_;
    }
  });
}

void ParameterUpdate::Save(RunSnapshot* snapshot) const {
  for (size_t i = 0; i < slots().size(); ++i) snapshot->Add(SlotName(i), slots()[i].span());
  if (average_.size() > 0) snapshot->Add("average", average_.span());
}

absl::Status ParameterUpdate::Restore(const RunSnapshot& snapshot) {
  absl::Status status;
  const std::span<AlignedBuffer<float>> slots = optimizer_.slots();
  for (size_t i = 0; i < slots.size(); ++i) {
    status.Update(snapshot.CopyTo(SlotName(i), slots[i].span()));
  }
  if (average_.size() > 0) status.Update(snapshot.CopyTo("average", average_.span()));
  return status;
}

}  // namespace lockstep
