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
};

// Bounds that memory is planned for.
struct Capacity {
  int64_t samples = 0;
  int shards = 1;
  int threads = 1;
};

// Matrices are row-major with a row a position (see Shape); pointers are to the first sample.
struct ForwardContext {
  const StepContext& step;
  const float* x;
  float* y;
  std::span<const float* const> parameters;
  std::span<float* const> buffers;  // updated
  std::byte* saved;                 // for Backward; 64-byte aligned, as scratch is
  std::byte* scratch;
  // Leave a final softmax to the loss: y is its input, and Backward's dy is the gradient there.
  bool logits;
};

struct BackwardContext {
  const StepContext& step;
  const float* x;
  const float* y;
  float* dy;  // may be overwritten
  float* dx;  // null when nobody needs it
  std::span<const float* const> parameters;
  // Per parameter: of kind kContraction one tensor a local node, `node_stride` floats apart; of
  // kind kGlobal one tensor.
  std::span<float* const> gradients;
  int64_t gradient_node_stride;
  // Per parameter of kind kSum: one tensor a local node, `sum_node_stride` doubles apart.
  std::span<double* const> sums;
  int64_t sum_node_stride;
  const std::byte* saved;
  std::byte* scratch;
  bool logits;
};

// On one thread; safe for any number of threads at once.
struct InferContext {
  const kernels::KernelTable* kernels;
  int64_t samples;
  const float* x;
  float* y;
  std::span<const float* const> parameters;
  std::span<const float* const> buffers;
  std::byte* scratch;
  bool logits;
};

// A layer: hyper-parameters and the shapes that follow from them, nothing else. Immutable, so one
// object serves all threads; whatever changes comes in through a context. Once built, no call can
// fail.
class Layer {
 public:
  virtual ~Layer() = default;

  virtual Shape output_shape() const = 0;
  virtual std::vector<TensorSpec> parameters() const { return {}; }
  virtual std::vector<TensorSpec> buffers() const { return {}; }

  // Bytes of memory it needs: kept from Forward to Backward, during a call of either, during Infer.
  virtual int64_t saved_bytes(const Capacity&) const { return 0; }
  virtual int64_t scratch_bytes(const Capacity&) const { return 0; }
  virtual int64_t infer_scratch_bytes() const { return 0; }
  // y is x under another shape: nobody calls Forward, Backward or Infer.
  virtual bool is_view() const { return false; }
  // Ends in a softmax that a loss can take over (ForwardContext::logits).
  virtual bool ends_in_softmax() const { return false; }

  virtual void Forward(const ForwardContext& c) const = 0;
  virtual void Backward(const BackwardContext& c) const = 0;
  virtual void Infer(const InferContext& c) const = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_LAYER_H_
