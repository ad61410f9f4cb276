#ifndef LOCKSTEP_CORE_LAYERS_LAYER_H_
#define LOCKSTEP_CORE_LAYERS_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/parallel/collective.h"
#include "core/parallel/thread_pool.h"
#include "core/tensor/shape.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// How a parameter's gradient comes to be, which says where a layer puts it and how shards and
// workers combine it (core/README.md, rules 1, 2 and 5).
enum class GradientKind {
  kContraction,  // float, one value a local node, summed over the tree at the end of the step
  kSum,          // double, likewise; rounded to float once the root is known
  kGlobal,       // already over the whole batch (BatchNorm): written once
};

// A named tensor of a layer: "kernel", "gamma", "moving_mean".
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  v1::Initializer initializer;
  // Of a kernel: what GlorotUniform and its like count.
  int64_t fan_in = 1;
  int64_t fan_out = 1;
  GradientKind gradient = GradientKind::kContraction;  // of parameters
  v1::Regularizer regularizer = {};                    // likewise
  // Of a buffer: initial values that the spec gives, one for all or one each, instead of the
  // initializer's. A file of weights may leave such a tensor out.
  std::vector<float> values = {};
};

// The shards of one global batch that this worker computes. Its samples are numbered from 0 here
// and lie shard after shard.
struct Batch {
  int64_t samples = 0;         // here
  int64_t global_samples = 0;  // B', over all workers
  int64_t first_position = 0;  // of sample 0 in the global batch
  // First sample of each local shard, and the end: shards may be empty.
  std::vector<int64_t> shard_begin;
  // Local shards [begin, end) of each local node, as indices into shard_begin.
  std::vector<ShardNode> nodes;

  int shards() const { return static_cast<int>(shard_begin.size()) - 1; }
  int64_t node_samples(const ShardNode& n) const {
    return shard_begin[n.end] - shard_begin[n.begin];
  }
};

// What the layers of one step share.
struct StepContext {
  const kernels::KernelTable* kernels = nullptr;
  ThreadPool* pool = nullptr;
  Collective* collective = nullptr;
  const Batch* batch = nullptr;
  uint64_t seed = 0;
  int64_t step = 0;
  // Forward is to normalise by moving statistics in place of the batch's, and leave them as they
  // are.
  bool moving_statistics = false;
};

// Bounds that memory is planned for.
struct Capacity {
  int64_t samples = 0;
  int shards = 1;
  int threads = 1;
};

// Consecutive samples of the batch that one thread takes through several layers while they are in
// its cache.
struct Tile {
  int64_t begin = 0;
  int64_t samples = 0;
  int shard = 0;  // that they belong to, for a layer with chunk_samples
};

// What the arguments of a training step's calls have in common. Matrices are row-major with a row a
// position (see Shape). Pointers to activations and their gradients are to the tile's first sample;
// for the calls on the whole batch (Combine..., Finish...) to the batch's first. Memory is 64-byte
// aligned.
struct LayerContext {
  const StepContext& step;
  Tile tile;
  std::span<const float* const> parameters;
  const std::byte* packed;  // by Pack, for this direction
  std::byte* saved;         // of the layer, for the whole step
  std::byte* sums;          // of the layer, for the whole batch, while this direction needs it
  std::byte* scratch;       // of the thread, for one call on a tile
  // Leave the final activation to the loss: y is its input, and dy the gradient there.
  bool logits;
};

struct ForwardContext : LayerContext {
  std::span<const float* const> inputs;
  float* y;
  bool relu;                        // y is to be max(0, y); only where traits() allows it
  std::span<float* const> buffers;  // CombineForward updates them

  const float* x() const { return inputs[0]; }
};

struct BackwardContext : LayerContext {
  // Null unless traits() says that they are read again.
  const float* x;
  const float* y;
  float* dy;
  // By input; null when nobody needs it.
  std::span<float* const> input_gradients;
  bool adds;  // dx is to be added to what is there; only where traits() allows it
  // Per parameter: of kind kContraction one tensor a local node, `node_stride` floats apart; of
  // kind kGlobal one tensor.
  std::span<float* const> gradients;
  int64_t gradient_node_stride;
  // Per parameter of kind kSum: one tensor a local node, `sum_node_stride` doubles apart.
  std::span<double* const> parameter_sums;
  int64_t sum_node_stride;
  // x of every input, null as x is; x is the first.
  std::span<const float* const> inputs;
  // False in a frozen layer: nobody reads these gradients, and FinishBackward is not called.
  bool trainable = true;
  // dy is the gradient after the ReLU that Forward applied; only where traits() says so.
  bool relu = false;

  float* dx() const { return input_gradients[0]; }
};

// On one thread; safe for any number of threads at once.
struct InferContext {
  const kernels::KernelTable* kernels;
  int64_t samples;
  std::span<const float* const> inputs;
  float* y;
  std::span<const float* const> parameters;
  const std::byte* packed;
  std::byte* scratch;
  bool logits;
  bool relu = false;  // y is to be max(0, y); only where traits() allows it

  const float* x() const { return inputs[0]; }
};

// What weights are packed for.
enum class Pass { kForward, kBackward, kInference };

struct PackContext {
  const kernels::KernelTable* kernels;
  Pass pass;
  std::span<const float* const> parameters;
  std::span<const float* const> buffers;
  std::byte* packed;
};

// What a layer learns of its input beside the loss, channel by channel.
struct BatchStatistics {
  std::span<const double> mean;
  std::span<const double> variance;
  double epsilon;  // that it adds to a variance
};

struct LayerTraits {
  // y is x under another shape: nobody calls the layer.
  bool is_view = false;
  // Needs something of the whole batch before it can compute y, and dy of the whole batch before
  // dx: the Gather and Combine calls.
  bool synchronizes = false;
  // Normalises by the batch's statistics and follows them with its first two buffers, the moving
  // mean and variance: CurrentStatistics.
  bool follows_statistics = false;
  bool backward_reads_x = false;
  bool backward_reads_y = false;
  // Backward reads the packed weights even if nobody needs dx.
  bool backward_reads_packed = false;
  // Backward is through with a tile's x before it writes dx, which may lie in its place.
  bool dx_may_be_x = false;
  // Backward may change dy.
  bool overwrites_dy = false;
  // Forward needs its x and what the layer saved, no more: rather than keeping y for the backward
  // calls of its reader it may be called again.
  bool cheap_forward = false;
  // dx is dy for every input: Backward copies it to those that do not lie in the same place.
  bool passes_gradient = false;
  // Backward only spreads out a smaller dy: rather than keeping dx it may be called again.
  bool cheap_backward = false;
  // Backward can add to dx (BackwardContext::adds); it has one input.
  bool adds_gradient = false;
  // FinishBackward reads dy of the whole batch, and x if Backward does.
  bool finish_reads_dy = false;
  // What it ends in; a loss can take over a softmax or sigmoid (LayerContext::logits).
  kernels::Activation final_activation = kernels::Activation::kLinear;
  // In inference y = x * scale + offset, a channel at a time: InferenceAffine.
  bool is_inference_affine = false;
  // Can take over such a layer that follows it: has no activation, and its parameters are a kernel
  // whose columns in memory are the channels of y, and perhaps a bias. (Infer gets a bias in any
  // case then.)
  bool absorbs_affine = false;
  // Is a ReLU and nothing else; can apply a ReLU that follows it at no cost, when nobody else reads
  // its output (ForwardContext::relu). Its Backward does not read y then.
  bool is_relu = false;
  bool applies_relu = false;
  // Then the gradient goes through that ReLU in its own backward calls (BackwardContext::relu).
  bool reverts_relu = false;
};

// A layer: hyper-parameters and the shapes that follow from them, nothing else. Immutable, so one
// object serves all threads; whatever changes comes in through a context. Once built, no call can
// fail.
//
// A training step calls, with each line complete for the whole batch before the next begins:
//   Pack for the pass                                      (once)
//   GatherForward                                          (by tile)
//   CombineForward                                         (once, if it synchronizes)
//   Forward                                                (by tile)
// and backward likewise, then FinishBackward (once). Calls on a tile run on any thread, several at
// once; calls made once may use the pool.
class Layer {
 public:
  virtual ~Layer() = default;

  virtual Shape output_shape() const = 0;
  virtual LayerTraits traits() const { return {}; }
  virtual std::vector<TensorSpec> parameters() const { return {}; }
  virtual std::vector<TensorSpec> buffers() const { return {}; }
  // Samples of a shard, a power of two, whose Backward calls must be made by one thread in
  // ascending order, because they continue each other's sums; 0: none.
  virtual int64_t chunk_samples() const { return 0; }

  // Bytes of the memory that the contexts name.
  virtual int64_t packed_bytes(Pass) const { return 0; }
  virtual int64_t saved_bytes(const Capacity&) const { return 0; }
  virtual int64_t forward_sums_bytes(const Capacity&) const { return 0; }
  virtual int64_t backward_sums_bytes(const Capacity&) const { return 0; }
  virtual int64_t scratch_bytes(int64_t /*tile_samples*/) const { return 0; }
  virtual int64_t infer_scratch_bytes(int64_t /*samples*/) const { return 0; }

  // Brings the weights into the form in which the pass reads them. Called if that takes any bytes.
  virtual void Pack(const PackContext&) const {}

  virtual void GatherForward(const ForwardContext&) const {}
  virtual void CombineForward(const ForwardContext&) const {}
  virtual void Forward(const ForwardContext& c) const = 0;
  // Right after CombineForward, where traits() says so: the whole batch's, in `sums`, as they enter
  // the moving ones.
  virtual BatchStatistics CurrentStatistics(const ForwardContext&) const { return {}; }

  virtual void GatherBackward(const BackwardContext&) const {}
  virtual void CombineBackward(const BackwardContext&) const {}
  virtual void Backward(const BackwardContext& c) const = 0;
  virtual void FinishBackward(const BackwardContext&) const {}

  virtual void Infer(const InferContext& c) const = 0;
  // scale[C] and offset[C], see LayerTraits.
  virtual void InferenceAffine(std::span<const float* const> /*parameters*/,
                               std::span<const float* const> /*buffers*/, double* /*scale*/,
                               double* /*offset*/) const {}
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_LAYER_H_
