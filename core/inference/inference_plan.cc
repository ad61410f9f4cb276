#include "core/inference/inference_plan.h"

#include <algorithm>

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Of a phase's values for a tile of samples: they fit a core's L2 cache. Larger ones are not
// faster.
constexpr int64_t kTileBytes = 256 << 10;

int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// How often each value is read.
std::vector<int> CountReaders(const Network& network) {
  std::vector<int> readers(network.nodes().size() + 1);
  for (const Network::Node& node : network.nodes()) {
    for (int value : node.inputs) ++readers[value];
  }
  return readers;
}

}  // namespace

InferencePlan::InferencePlan(const Network& network) {
  const int nodes = static_cast<int>(network.nodes().size());
  const std::vector<int> readers = CountReaders(network);
  std::vector<int> storage(nodes + 1);   // views and folded layers share a value
  std::vector<int> phase_of(nodes + 1);  // by value: where it is computed
  std::vector<int> call_of(nodes + 1);   // and its call's number there
  for (int i = 0; i < nodes; ++i) {
    const Network::Node& node = network.nodes()[i];
    const LayerTraits traits = node.layer->traits();
    const int input = node.inputs[0];
    storage[i + 1] = storage[input];
    if (traits.is_view) continue;
    if (traits.is_inference_affine && input > 0 && readers[input] == 1 &&
        network.nodes()[input - 1].layer->traits().absorbs_affine) {
      Call& call = phases_[phase_of[storage[input]]].calls[call_of[storage[input]]];
      call.folded = i;
      call.folded_offset = folded_floats_;
      const Network::Node& absorber = network.nodes()[call.node];
      folded_floats_ +=
          RoundUp((network.parameters()[absorber.first_parameter].size + node.output.channels()) *
                  kFloat) /
          kFloat;
      continue;
    }
    if (traits.is_relu && storage[input] > 0 && readers[input] == 1) {
      Call& call = phases_[phase_of[storage[input]]].calls[call_of[storage[input]]];
      const bool direct = call.node + 1 == input || call.folded + 1 == input;
      if (direct && !call.relu && network.nodes()[call.node].layer->traits().applies_relu) {
        call.relu = true;
        continue;
      }
    }
    storage[i + 1] = i + 1;
    Call call = {.node = i,
                 .folded = -1,
                 .relu = false,
                 .inputs = {},
                 .output = i + 1,
                 .packed_offset = packed_bytes_,
                 .folded_offset = 0};
    packed_bytes_ += RoundUp(node.layer->packed_bytes(Pass::kInference));
    int phase = 0;
    for (int read : node.inputs) {
      const int value = storage[read];
      call.inputs.push_back(value);
      if (value == 0) continue;
      const bool apart = network.of_rows(value - 1) != network.of_rows(i);
      phase = std::max(phase, phase_of[value] + (apart ? 1 : 0));
    }
    if (std::ssize(phases_) <= phase) phases_.resize(phase + 1);
    phase_of[i + 1] = phase;
    call_of[i + 1] = static_cast<int>(phases_[phase].calls.size());
    phases_[phase].calls.push_back(std::move(call));
  }
  output_ = storage[nodes];

  int64_t scratch = 0;
  values_.resize(nodes + 1);
  for (int p = 0; p < std::ssize(phases_); ++p) {
    Phase& phase = phases_[p];
    int64_t sample_bytes = 1;
    bool rows = true;
    for (const Call& call : phase.calls) {
      rows &= network.of_rows(call.node);
      sample_bytes += 2 * network.shape(call.output).size() * kFloat;
      values_[call.output] = {Value::Kind::kTile, {.bytes = 0, .first = p, .last = p}};
      for (int v : call.inputs) {
        if (v == 0 || phase_of[v] == p) continue;
        values_[v].kind = Value::Kind::kPart;
        values_[v].piece.last = p;
      }
    }
    phase.tile_samples =
        rows ? kPartSamples : std::clamp<int64_t>(kTileBytes / sample_bytes, 1, kPartSamples);
    for (const Call& call : phase.calls) {
      const Layer& layer = *network.nodes()[call.node].layer;
      scratch = std::max(scratch, layer.infer_scratch_bytes(phase.tile_samples));
    }
  }
  values_[output_].kind = Value::Kind::kOutside;

  std::vector<ArenaPiece*> pieces;
  for (int v = 0; v <= nodes; ++v) {
    if (values_[v].kind != Value::Kind::kPart) continue;
    values_[v].piece.bytes = kPartSamples * network.shape(v).size() * kFloat;
    pieces.push_back(&values_[v].piece);
  }
  tile_offset_ = PlanArena(pieces);
  int64_t tile_bytes = 0;
  for (const Phase& phase : phases_) {
    pieces.clear();
    for (int t = 0; t < std::ssize(phase.calls); ++t) {
      const Call& call = phase.calls[t];
      for (int v : call.inputs) {
        if (values_[v].kind == Value::Kind::kTile) values_[v].piece.last = t;
      }
      if (values_[call.output].kind != Value::Kind::kTile) continue;
      values_[call.output].piece = {
          .bytes = phase.tile_samples * network.shape(call.output).size() * kFloat,
          .first = t,
          .last = t};
      pieces.push_back(&values_[call.output].piece);
    }
    tile_bytes = std::max(tile_bytes, PlanArena(pieces));
  }
  scratch_offset_ = tile_offset_ + tile_bytes;
  memory_bytes_ = scratch_offset_ + RoundUp(scratch);
}

}  // namespace lockstep
