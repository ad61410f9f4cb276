#ifndef LOCKSTEP_TESTS_CORE_NETWORK_STEP_RUN_H_
#define LOCKSTEP_TESTS_CORE_NETWORK_STEP_RUN_H_

#include <algorithm>
#include <random>
#include <vector>

#include "core/network/training_pass.h"

namespace lockstep {

// What goes into a step: parameters and buffers in the network's layout, a batch and the gradient
// of the loss.
struct StepInput {
  std::vector<float> parameters, buffers, x, dy;

  // From a seed.
  static StepInput Random(const Network& network, int64_t samples) {
    StepInput input;
    input.parameters.resize(network.parameters_size());
    input.buffers.resize(network.buffers_size());
    network.Initialize(5, input.parameters, input.buffers);
    std::mt19937 random(6);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    input.x.resize(samples * network.input().size());
    input.dy.resize(samples * network.output().size());
    for (float& value : input.x) value = uniform(random);
    for (float& value : input.dy) value = uniform(random);
    return input;
  }
};

struct StepBits {
  std::vector<float> output, gradient, buffers;
  bool operator==(const StepBits&) const = default;
};

// Forward, Backward and Reduce on shards that begin at `shards`, whose last entry is the number of
// samples.
inline StepBits RunStep(const Network& network, const StepInput& input,
                        const std::vector<int64_t>& shards, Collective& collective,
                        const kernels::KernelTable* kernels, int threads) {
  ThreadPool pool(threads);
  Batch batch;
  batch.samples = batch.global_samples = shards.back();
  batch.shard_begin = shards;
  batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
  const Capacity capacity = {batch.samples, batch.shards(), threads};
  TrainingPass pass(network, capacity, static_cast<int>(batch.nodes.size()),
                    std::vector<bool>(network.outputs().size(), true));
  StepContext step;
  step.kernels = kernels;
  step.pool = &pool;
  step.collective = &collective;
  step.batch = &batch;

  StepBits bits;
  bits.buffers = input.buffers;
  const auto load = [&](const Tile& tile, float* x) {
    const int64_t size = network.input().size();
    std::copy_n(input.x.data() + tile.begin * size, tile.samples * size, x);
  };
  pass.Forward(step, input.parameters.data(), bits.buffers.data(), load);
  bits.output.assign(pass.output(), pass.output() + batch.samples * network.output().size());
  std::ranges::copy(input.dy, pass.output_gradient());
  pass.Backward(step, input.parameters.data());
  pass.Reduce(step);
  bits.gradient.assign(pass.gradient().begin(), pass.gradient().end());
  return bits;
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_NETWORK_STEP_RUN_H_
