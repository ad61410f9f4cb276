#include "core/network/step_cost.h"

#include <algorithm>

namespace lockstep {
namespace {

// What loops reach of a core's peaks: contractions of its multiply-adds, everything else of what it
// reads from its L2 cache; an update of parameters that do not fit the caches, which threads share
// the memory for, of the same. Fitted to the examples' steps.
constexpr double kOfFlops = 0.85;
constexpr double kOfBytes = 0.55;
constexpr double kOfMemory = 0.18;
constexpr double kCacheBytes = 16 << 20;
// A barrier between threads, and what a call on a tile costs besides.
constexpr double kBarrierSeconds = 8e-6;
constexpr double kCallSeconds = 0.15e-6;

double ContractionWeights(const Network::Node& node) {
  double weights = 0;
  for (const TensorSpec& tensor : node.layer->parameters()) {
    double size = 1;
    for (int64_t extent : tensor.shape) size *= static_cast<double>(extent);
    if (tensor.gradient == GradientKind::kContraction) weights += size;
  }
  return weights;
}

}  // namespace

// Every value of a contraction's parameter is multiplied once at each position of y.
double FlopsPerSample(const Network::Node& node) {
  return 2 * ContractionWeights(node) * static_cast<double>(node.output.positions());
}

// A layer's arithmetic is read off its tensors: every value of a contraction's parameter is
// multiplied once at each position of y, forward, for dx and for its own gradient.
CallCost CostOf(const Network& network, const StepPlan& plan, int index, Call call) {
  const Network::Node& node = network.nodes()[index];
  const LayerTraits traits = node.layer->traits();
  const double weights = ContractionWeights(node);
  const double flops = FlopsPerSample(node);
  const double y = static_cast<double>(node.output.size());
  double x = 0;
  double dx = 0;
  for (int value : node.inputs) {
    const auto size = static_cast<double>(network.shape(value).size());
    const int storage = plan.storage[value];
    x += size;
    // A gradient that is passed on in its place costs nothing.
    const Place& place = plan.gradients[storage];
    const Place& own = plan.gradients[index + 1];
    const bool stays =
        traits.passes_gradient && place.kind == own.kind && place.piece.offset == own.piece.offset;
    if (plan.needs_gradient[storage] && !stays) dx += size;
  }
  // A layer with chunks sums its weights' gradient up tile by tile, others at the end.
  const bool weights_by_tile = weights > 0 && node.layer->chunk_samples() > 0;
  const bool weights_at_end = weights > 0 && !weights_by_tile;
  const int contractions = (dx > 0 ? 1 : 0) + (weights_by_tile ? 1 : 0);  // of Backward

  switch (call) {
    case Call::kGatherForward:
      return {.sample_floats = x};
    case Call::kForward:
    case Call::kForwardAgain:
      return {.sample_flops = flops, .sample_floats = x + y, .step_floats = weights};
    case Call::kGatherBackward:
      return {.sample_floats = x + y};
    case Call::kBackward:
      if (traits.passes_gradient) return {.sample_floats = 2 * dx};
      return {.sample_flops = flops * contractions,
              .sample_floats = y + dx + (traits.backward_reads_x && !weights_at_end ? x : 0) +
                               (traits.backward_reads_y ? y : 0),
              .step_floats = weights * contractions};
    case Call::kFinishBackward:
      if (!weights_at_end) return {};
      return {.sample_flops = flops, .sample_floats = x + y, .step_floats = weights};
    case Call::kCombineForward:
    case Call::kCombineBackward:
      return {};
  }
  return {};
}

double PredictStep(const Network& network, const StepPlan& plan, int64_t samples, int threads,
                   int64_t update_vectors, const Peaks& peaks) {
  const double flop_seconds = 1 / (kOfFlops * peaks.flops_per_second);
  const double float_seconds = sizeof(float) / (kOfBytes * peaks.bytes_per_second);
  const auto n = static_cast<double>(samples);
  double shared = n * static_cast<double>(network.input().size()) * float_seconds;  // loading
  double barriers = 0;
  for (const std::vector<Phase>* phases : {&plan.forward, &plan.backward}) {
    for (const Phase& phase : *phases) {
      const double tiles = std::max(1.0, n / static_cast<double>(phase.tile_samples));
      barriers += 1;
      for (const std::vector<PlannedCall>* calls : {&phase.tile_calls, &phase.batch_calls}) {
        for (const PlannedCall& call : *calls) {
          const CallCost cost = CostOf(network, plan, call.node, call.call);
          shared += n * cost.sample_flops * flop_seconds;
          shared += (n * cost.sample_floats + cost.step_floats) * float_seconds;
          shared += kCallSeconds * (calls == &phase.tile_calls ? tiles : 1);
        }
      }
    }
  }
  const double update_bytes =
      static_cast<double>(update_vectors * network.parameters_size()) * sizeof(float);
  double alone = threads > 1 ? barriers * kBarrierSeconds : 0;
  if (update_bytes > kCacheBytes) {
    alone += update_bytes / (kOfMemory * peaks.bytes_per_second);
  } else {
    shared += update_bytes / (kOfBytes * peaks.bytes_per_second);
  }
  return shared / threads + alone;
}

}  // namespace lockstep
