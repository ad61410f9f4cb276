#ifndef LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_
#define LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/network/network.h"
#include "core/network/step_plan.h"
#include "core/network/step_profile.h"
#include "core/tensor/aligned_buffer.h"

namespace lockstep {

// The memory of training steps, and the passes over the layers as a StepPlan orders them. After the
// constructor nothing is allocated. Not thread-safe; the network must outlive it.
class TrainingPass {
 public:
  // `nodes`: of the shard tree, that this worker holds. `logits`, by output: its layer leaves its
  // softmax or sigmoid to the loss.
  TrainingPass(const Network& network, const Capacity& capacity, int nodes,
               const std::vector<bool>& logits);

  // What the constructor allocates.
  static int64_t MemoryBytes(const Network& network, const Capacity& capacity, int nodes);

  const StepPlan& plan() const { return plan_; }
  // Counts in `profile` what the calls take from now on; null: nobody counts.
  void set_profile(StepProfile* profile) { profile_ = profile; }

  // Writes the rows of a tile's inputs, scaled, to x. Called once a sample, on any thread, just
  // before the first layer reads it.
  using Loader = absl::FunctionRef<void(const Tile& tile, float* x)>;

  // After Forward: [samples, output], rows of all outputs.
  const float* output() const { return output_; }
  // Gradient of the loss at output(), to be written before Backward.
  float* output_gradient() { return output_gradient_; }

  void Forward(const StepContext& step, const float* parameters, float* buffers, Loader load);
  void Backward(const StepContext& step, const float* parameters);

  // Combines the gradients of all nodes and workers; the result is whole in gradient().
  void Reduce(const StepContext& step);
  // In the layout of the parameters; whoever applies it may change it.
  std::span<float> gradient() {
    return {contractions_.data(), static_cast<size_t>(network_.parameters_size())};
  }

  // Sees what a run of Forward computes.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // `count` values of a Forward call's output; on any thread, several at once.
    virtual void SeeOutput(int /*node*/, const float* /*y*/, int64_t /*count*/) {}
    // Of a layer that follows them (see LayerTraits), once.
    virtual void SeeStatistics(int /*node*/, const BatchStatistics& /*statistics*/) {}
  };
  // Forward, under the eyes of the watcher if there is one, that changes no buffer. No profile
  // counts it.
  void ForwardAgain(const StepContext& step, const float* parameters,
                    std::span<const float> buffers, Loader load, Watcher* watcher);

  // Runs Forward again to find the first layer whose output has a value that is not finite; null
  // when all are.
  const Network::Node* FirstNonFinite(const StepContext& step, const float* parameters,
                                      std::span<const float> buffers, Loader load);

 private:
  void RunPhase(const StepContext& step, const Phase& phase, const Loader* load, Watcher* watcher);
  void LoadTile(const Tile& tile, int thread, Loader load);
  void Run(const StepContext& step, const PlannedCall& call, const Tile& tile, int thread,
           Watcher* watcher);
  void RunForward(const StepContext& step, const PlannedCall& call, const Tile& tile, int thread,
                  Watcher* watcher);
  void RunBackward(const StepContext& step, const PlannedCall& call, const Tile& tile, int thread);
  void RunForwardPhases(const StepContext& step, const float* parameters, float* buffers,
                        Loader load, Watcher* watcher);
  void Pack(const StepContext& step, Pass pass);
  void CutTiles(const Batch& batch, int threads, const Phase& phase);

  std::byte* Memory(const ArenaPiece& piece) { return arena_.data() + piece.offset; }
  float* BatchValue(const Place& place) { return reinterpret_cast<float*>(Memory(place.piece)); }
  std::byte* ThreadMemory(int thread) { return threads_.data() + thread * plan_.thread_bytes; }
  float* At(const Place& place, int value, const Tile& tile, int thread);

  const Network& network_;
  const std::vector<bool> logits_;  // by node
  const StepPlan plan_;
  StepProfile* profile_ = nullptr;
  AlignedBuffer<std::byte> arena_;
  AlignedBuffer<std::byte> threads_;
  float* output_;
  float* output_gradient_;
  // Gradients by kind: contractions [nodes][parameters], where node 0's row becomes the whole
  // gradient; sums [nodes][sums]; what is global already, once.
  AlignedBuffer<float> contractions_;
  AlignedBuffer<double> sums_;
  AlignedBuffer<float> globals_;
  int64_t sums_size_;
  // By parameter: its place in the first row of its kind.
  std::vector<float*> gradient_;
  std::vector<double*> sum_;
  std::vector<int64_t> counts_;  // samples by node
  // Set for each pass.
  std::vector<const float*> parameter_;
  std::vector<float*> buffer_;
  std::vector<const float*> read_buffer_;  // the same, for those who only read
  std::vector<Tile> work_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_TRAINING_PASS_H_
