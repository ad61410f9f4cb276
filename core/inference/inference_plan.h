#ifndef LOCKSTEP_CORE_INFERENCE_INFERENCE_PLAN_H_
#define LOCKSTEP_CORE_INFERENCE_INFERENCE_PLAN_H_

#include <cstdint>
#include <vector>

#include "core/network/arena.h"
#include "core/network/network.h"

namespace lockstep {

// In what order inference calls the layers, and where their outputs lie: made once a model. Samples
// are taken in parts; the layers between an image and a row go depth first, a tile of a few samples
// at a time, as in training (StepPlan).
class InferencePlan {
 public:
  explicit InferencePlan(const Network& network);

  static constexpr int64_t kPartSamples = 64;

  struct Call {
    int node;
    int folded;               // the BatchNorm folded into it, or -1
    bool relu;                // applies the ReLU that follows
    std::vector<int> inputs;  // values, as in Network::Node
    int output;
    int64_t packed_offset;  // bytes
    int64_t folded_offset;  // floats: the kernel, then the bias
  };
  struct Phase {
    std::vector<Call> calls;
    int64_t tile_samples;
  };
  // A value for the whole part, or for one tile; the network's input and output lie outside.
  struct Value {
    enum class Kind { kOutside, kPart, kTile } kind = Kind::kOutside;
    ArenaPiece piece;
  };

  const std::vector<Phase>& phases() const { return phases_; }
  const Value& value(int i) const { return values_[i]; }
  int output() const { return output_; }
  int64_t tile_offset() const { return tile_offset_; }
  int64_t scratch_offset() const { return scratch_offset_; }
  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t packed_bytes() const { return packed_bytes_; }
  int64_t folded_floats() const { return folded_floats_; }

 private:
  std::vector<Phase> phases_;
  std::vector<Value> values_;
  int output_ = 0;  // the value that is the network's output; 0 when all layers are views
  // Parts' values first, then a tile's, then scratch.
  int64_t tile_offset_ = 0;
  int64_t scratch_offset_ = 0;
  int64_t memory_bytes_ = 0;
  int64_t packed_bytes_ = 0;
  int64_t folded_floats_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_INFERENCE_INFERENCE_PLAN_H_
