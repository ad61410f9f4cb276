#ifndef LOCKSTEP_CORE_NETWORK_STEP_PLAN_H_
#define LOCKSTEP_CORE_NETWORK_STEP_PLAN_H_

#include <cstdint>
#include <vector>

#include "core/network/arena.h"
#include "core/network/network.h"

namespace lockstep {

// A call of a layer in a training step (see Layer).
enum class Call {
  kGatherForward,
  kCombineForward,
  kForward,
  kForwardAgain,  // the same in the backward pass, for a value that was not kept
  kGatherBackward,
  kCombineBackward,
  kBackward,
  kFinishBackward,
};

struct PlannedCall {
  int node;
  Call call;
};

// The calls between two moments at which the whole batch has to be there. Depth first: a thread
// takes a tile of samples through all of them while the tile's activations are in its cache, then
// the next tile.
struct Phase {
  std::vector<PlannedCall> tile_calls;
  std::vector<PlannedCall> batch_calls;  // once all tiles are through
  // Layers of single rows rather than images: tiles are large, so that weights are read seldom.
  bool rows = false;
  int64_t chunk_samples = 0;  // see Layer; tiles then lie within one shard
  int64_t tile_samples = 1;
};

// Where a value, or its gradient, lies: for the whole batch, or, when nobody needs it beyond one
// phase, for one tile in the thread's memory.
struct Place {
  enum class Kind { kNowhere, kBatch, kTile };
  Kind kind = Kind::kNowhere;
  ArenaPiece piece;
};

// When what is computed in a training step and where it lies: made once a job. Values are numbered
// as in Network::Node::inputs; a view shares its input's place.
struct StepPlan {
  StepPlan(const Network& network, const Capacity& capacity);

  // The value that `value` is a view of, or itself.
  std::vector<int> storage;
  // By node: the ReLU that it applies itself, whose Forward is not called then; -1: none.
  std::vector<int> applied_relu;
  // By node: whether it also reverts that ReLU, whose Backward is not called then.
  std::vector<bool> reverts_relu;
  // The value that a node's Forward writes.
  int Output(int node) const { return (applied_relu[node] >= 0 ? applied_relu[node] : node) + 1; }
  // The value whose gradient its backward calls read.
  int OutputGradient(int node) const { return reverts_relu[node] ? Output(node) : node + 1; }

  // By value: whether parameters that learn lie above it, and the node that reads it last. The
  // value's readers add up its gradient from the last one, which stores, to the first.
  std::vector<bool> needs_gradient;
  std::vector<int> last_reader;
  bool Adds(int reader, int value) const {
    return needs_gradient[value] && last_reader[value] != reader;
  }
  std::vector<bool> adds_gradient;  // by node: of LayerTraits

  std::vector<Phase> forward;
  std::vector<Phase> backward;
  // By value; backward calls read values where backward_values says.
  std::vector<Place> values;
  std::vector<Place> backward_values;
  std::vector<Place> gradients;
  // By node; forward_sums and backward_sums by phase, so that both reuse what is free.
  std::vector<ArenaPiece> forward_packed, backward_packed, saved, forward_sums, backward_sums;
  int64_t batch_bytes = 0;  // of the arena that all threads share
  // Of each thread's own: a tile's values and gradients; from scratch_offset on gradients that are
  // to be added, then the layer's scratch.
  int64_t thread_bytes = 0;
  int64_t scratch_offset = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_STEP_PLAN_H_
