#include "core/network/training_pass.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <utility>

namespace lockstep {
namespace {

// Pieces of a phase for each thread, so that they end at about the same time.
constexpr int64_t kPiecesAThread = 4;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Of as few equal parts of n > 0 as are no larger than `most`.
int64_t EvenPart(int64_t n, int64_t most) { return CeilDiv(n, CeilDiv(n, most)); }

// Values in the parameters whose gradients are of this kind.
int64_t SizeOfKind(const Network& network, GradientKind kind) {
  int64_t size = 0;
  for (const NetworkTensor& tensor : network.parameters()) {
    if (tensor.spec.gradient == kind) size += tensor.size;
  }
  return size;
}

}  // namespace

int64_t TrainingPass::MemoryBytes(const Network& network, const Capacity& capacity, int nodes) {
  const int64_t floats =
      nodes * network.parameters_size() + SizeOfKind(network, GradientKind::kGlobal);
  const int64_t doubles = nodes * SizeOfKind(network, GradientKind::kSum);
  const StepPlan plan(network, capacity);
  return plan.batch_bytes + capacity.threads * plan.thread_bytes +
         floats * static_cast<int64_t>(sizeof(float)) +
         doubles * static_cast<int64_t>(sizeof(double));
}

TrainingPass::TrainingPass(const Network& network, const Capacity& capacity, int nodes,
                           const std::vector<bool>& logits)
    : network_(network),
      logits_(network.AtOutputs(logits)),
      plan_(network, capacity),
      arena_(plan_.batch_bytes),
      threads_(capacity.threads * plan_.thread_bytes),
      output_(BatchValue(plan_.values[plan_.storage.back()])),
      output_gradient_(BatchValue(plan_.gradients[plan_.storage.back()])),
      contractions_(nodes * network.parameters_size()),
      sums_(nodes * SizeOfKind(network, GradientKind::kSum)),
      globals_(SizeOfKind(network, GradientKind::kGlobal)),
      sums_size_(SizeOfKind(network, GradientKind::kSum)),
      counts_(nodes),
      parameter_(network.parameters().size()),
      buffer_(network.buffers().size()),
      read_buffer_(network.buffers().size()) {
  int64_t sums = 0;
  int64_t globals = 0;
  for (const NetworkTensor& tensor : network.parameters()) {
    float* gradient = nullptr;
    double* sum = nullptr;
    switch (tensor.spec.gradient) {
      case GradientKind::kContraction:
        gradient = contractions_.data() + tensor.offset;
        break;
      case GradientKind::kSum:
        sum = sums_.data() + std::exchange(sums, sums + tensor.size);
        break;
      case GradientKind::kGlobal:
        gradient = globals_.data() + std::exchange(globals, globals + tensor.size);
        break;
    }
    gradient_.push_back(gradient);
    sum_.push_back(sum);
  }
  work_.reserve(capacity.samples + capacity.shards);
}

void TrainingPass::Forward(const StepContext& step, const float* parameters, float* buffers,
                           Loader load) {
  RunForwardPhases(step, parameters, buffers, load, nullptr);
}

void TrainingPass::RunForwardPhases(const StepContext& step, const float* parameters,
                                    float* buffers, Loader load, Watcher* watcher) {
  for (size_t i = 0; i < parameter_.size(); ++i) {
    parameter_[i] = parameters + network_.parameters()[i].offset;
  }
  for (size_t i = 0; i < buffer_.size(); ++i) {
    read_buffer_[i] = buffer_[i] = buffers + network_.buffers()[i].offset;
  }
  Pack(step, Pass::kForward);
  for (const Phase& phase : plan_.forward) {
    RunPhase(step, phase, &phase == &plan_.forward.front() ? &load : nullptr, watcher);
  }
}

void TrainingPass::Backward(const StepContext& step, const float* parameters) {
  for (size_t i = 0; i < parameter_.size(); ++i) {
    parameter_[i] = parameters + network_.parameters()[i].offset;
  }
  Pack(step, Pass::kBackward);
  for (const Phase& phase : plan_.backward) RunPhase(step, phase, nullptr, nullptr);
}

void TrainingPass::Pack(const StepContext& step, Pass pass) {
  const StepTimer timer(profile_, StepPart::kPacking, 0);
  const std::vector<ArenaPiece>& pieces =
      pass == Pass::kForward ? plan_.forward_packed : plan_.backward_packed;
  step.pool->ParallelFor(std::ssize(pieces), [&](int64_t i, int) {
    if (pieces[i].bytes == 0) return;
    const Network::Node& node = network_.nodes()[i];
    node.layer->Pack(
        {.kernels = step.kernels,
         .pass = pass,
         .parameters = std::span(parameter_).subspan(node.first_parameter, node.parameter_count),
         .buffers = std::span(read_buffer_).subspan(node.first_buffer, node.buffer_count),
         .packed = Memory(pieces[i])});
  });
}

// Ranges of samples, each for one thread to take through a phase: small enough that all threads
// have some, whole chunks where there are chunks, and of about the same size.
void TrainingPass::CutTiles(const Batch& batch, int threads, const Phase& phase) {
  const int64_t unit = std::max<int64_t>(1, phase.chunk_samples);
  int64_t most = phase.tile_samples;
  if (threads > 1) {
    most = std::min(most, CeilDiv(batch.samples, kPiecesAThread * threads));
  }
  most = CeilDiv(most, unit) * unit;
  work_.clear();
  const auto cut = [&](int64_t begin, int64_t end, int shard) {
    if (begin == end) return;
    const int64_t size = CeilDiv(EvenPart(end - begin, most), unit) * unit;
    for (int64_t n = begin; n < end; n += size) {
      work_.push_back({n, std::min(size, end - n), shard});
    }
  };
  if (phase.chunk_samples == 0) {
    cut(0, batch.samples, 0);
  } else {
    for (int v = 0; v < batch.shards(); ++v) cut(batch.shard_begin[v], batch.shard_begin[v + 1], v);
  }
}

void TrainingPass::RunPhase(const StepContext& step, const Phase& phase, const Loader* load,
                            Watcher* watcher) {
  CutTiles(*step.batch, step.pool->threads(), phase);
  step.pool->ParallelFor(std::ssize(work_), [&](int64_t i, int thread) {
    const Tile& range = work_[i];
    const int64_t size = EvenPart(range.samples, phase.tile_samples);
    for (int64_t n = 0; n < range.samples; n += size) {
      const Tile tile = {range.begin + n, std::min(size, range.samples - n), range.shard};
      if (load != nullptr) LoadTile(tile, thread, *load);
      for (const PlannedCall& call : phase.tile_calls) Run(step, call, tile, thread, watcher);
    }
  });
  const Tile whole = {0, step.batch->samples, 0};
  for (const PlannedCall& call : phase.batch_calls) Run(step, call, whole, 0, watcher);
}

// The value or gradient of a tile's first sample; null when there is none.
float* TrainingPass::At(const Place& place, int value, const Tile& tile, int thread) {
  switch (place.kind) {
    case Place::Kind::kNowhere:
      return nullptr;
    case Place::Kind::kBatch:
      return BatchValue(place) + tile.begin * network_.shape(value).size();
    case Place::Kind::kTile:
      return reinterpret_cast<float*>(ThreadMemory(thread) + place.piece.offset);
  }
  return nullptr;
}

void TrainingPass::LoadTile(const Tile& tile, int thread, Loader load) {
  const int64_t bytes =
      tile.samples * network_.input().size() * static_cast<int64_t>(sizeof(float));
  const StepTimer timer(profile_, StepPart::kBatch, bytes, thread);
  load(tile, At(plan_.values[0], 0, tile, thread));
}

void TrainingPass::Run(const StepContext& step, const PlannedCall& call, const Tile& tile,
                       int thread, Watcher* watcher) {
  const StepTimer timer(profile_, call, tile.samples, thread);
  if (call.call < Call::kGatherBackward) {
    RunForward(step, call, tile, thread, watcher);
  } else {
    RunBackward(step, call, tile, thread);
  }
}

void TrainingPass::RunForward(const StepContext& step, const PlannedCall& call, const Tile& tile,
                              int thread, Watcher* watcher) {
  const Network::Node& node = network_.nodes()[call.node];
  std::array<const float*, Network::kMaxInputs> inputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const int value = plan_.storage[node.inputs[i]];
    inputs[i] = At(plan_.values[value], value, tile, thread);
  }
  const int output = plan_.Output(call.node);
  const bool again = call.call == Call::kForwardAgain;
  const ForwardContext context = {
      {.step = step,
       .tile = tile,
       .parameters = std::span(parameter_).subspan(node.first_parameter, node.parameter_count),
       .packed = Memory(plan_.forward_packed[call.node]),
       .saved = Memory(plan_.saved[call.node]),
       .sums = Memory(plan_.forward_sums[call.node]),
       .scratch = ThreadMemory(thread) + plan_.scratch_offset,
       .logits = logits_[call.node]},
      std::span(inputs).first(node.inputs.size()),
      At((again ? plan_.backward_values : plan_.values)[output], output, tile, thread),
      plan_.applied_relu[call.node] >= 0,
      std::span(buffer_).subspan(node.first_buffer, node.buffer_count)};
  switch (call.call) {
    case Call::kGatherForward:
      return node.layer->GatherForward(context);
    case Call::kCombineForward:
      node.layer->CombineForward(context);
      if (watcher != nullptr && node.layer->traits().follows_statistics) {
        watcher->SeeStatistics(call.node, node.layer->CurrentStatistics(context));
      }
      return;
    default:
      node.layer->Forward(context);
      if (watcher != nullptr) {
        watcher->SeeOutput(call.node, context.y, tile.samples * node.output.size());
      }
  }
}

void TrainingPass::RunBackward(const StepContext& step, const PlannedCall& call, const Tile& tile,
                               int thread) {
  const Network::Node& node = network_.nodes()[call.node];
  std::byte* scratch = ThreadMemory(thread) + plan_.scratch_offset;
  // What the layer computes goes to the gradients of its inputs, or to scratch memory first where
  // it is to be added and the layer cannot do that.
  std::array<float*, Network::kMaxInputs> gradients;
  std::array<float*, Network::kMaxInputs> computed;
  std::array<const float*, Network::kMaxInputs> inputs;
  bool adds = false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const int value = plan_.storage[node.inputs[i]];
    inputs[i] = At(plan_.backward_values[value], value, tile, thread);
    gradients[i] = computed[i] = At(plan_.gradients[value], value, tile, thread);
    if (call.call != Call::kBackward || !plan_.Adds(call.node, value)) continue;
    if (plan_.adds_gradient[call.node]) {
      adds = true;
    } else {
      computed[i] = reinterpret_cast<float*>(scratch);
      scratch +=
          CeilDiv(tile.samples * network_.shape(value).size() * static_cast<int64_t>(sizeof(float)),
                  64) *
          64;
    }
  }
  const int value = call.node + 1;
  const int after = plan_.OutputGradient(call.node);
  const BackwardContext context = {
      {.step = step,
       .tile = tile,
       .parameters = std::span(parameter_).subspan(node.first_parameter, node.parameter_count),
       .packed = Memory(plan_.backward_packed[call.node]),
       .saved = Memory(plan_.saved[call.node]),
       .sums = Memory(plan_.backward_sums[call.node]),
       .scratch = scratch,
       .logits = logits_[call.node]},
      inputs[0],
      At(plan_.backward_values[value], value, tile, thread),
      At(plan_.gradients[after], after, tile, thread),
      std::span(computed).first(node.inputs.size()),
      adds,
      std::span(gradient_).subspan(node.first_parameter, node.parameter_count),
      network_.parameters_size(),
      std::span(sum_).subspan(node.first_parameter, node.parameter_count),
      sums_size_,
      std::span(inputs).first(node.inputs.size()),
      node.trainable,
      plan_.reverts_relu[call.node]};
  switch (call.call) {
    case Call::kGatherBackward:
      return node.layer->GatherBackward(context);
    case Call::kCombineBackward:
      return node.layer->CombineBackward(context);
    case Call::kFinishBackward:
      return node.layer->FinishBackward(context);
    default:
      node.layer->Backward(context);
  }
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (computed[i] == gradients[i]) continue;
    const int64_t count = tile.samples * network_.shape(node.inputs[i]).size();
    step.kernels->add(count, gradients[i], computed[i], /*relu=*/false, gradients[i]);
  }
}

void TrainingPass::Reduce(const StepContext& step) {
  const StepTimer timer(profile_, StepPart::kReduction, 0);
  for (size_t i = 0; i < counts_.size(); ++i) {
    counts_[i] = step.batch->node_samples(step.batch->nodes[i]);
  }
  step.collective->CombineGradients(network_.parameters_size(), contractions_.span(), counts_);
  step.collective->CombineSums(sums_size_, sums_.span(), counts_);
  for (size_t p = 0; p < gradient_.size(); ++p) {
    const NetworkTensor& tensor = network_.parameters()[p];
    float* out = contractions_.data() + tensor.offset;
    if (tensor.spec.gradient == GradientKind::kSum) {
      std::transform(sum_[p], sum_[p] + tensor.size, out,
                     [](double v) { return static_cast<float>(v); });
    } else if (tensor.spec.gradient == GradientKind::kGlobal) {
      std::copy_n(gradient_[p], tensor.size, out);
    }
  }
}

void TrainingPass::ForwardAgain(const StepContext& step, const float* parameters,
                                std::span<const float> buffers, Loader load, Watcher* watcher) {
  std::vector<float> copy(buffers.begin(), buffers.end());
  StepProfile* const profile = std::exchange(profile_, nullptr);
  RunForwardPhases(step, parameters, copy.data(), load, watcher);
  profile_ = profile;
}

const Network::Node* TrainingPass::FirstNonFinite(const StepContext& step, const float* parameters,
                                                  std::span<const float> buffers, Loader load) {
  class FiniteWatcher final : public Watcher {
   public:
    explicit FiniteWatcher(int none) : first_(none) {}
    void SeeOutput(int node, const float* y, int64_t count) override {
      if (std::all_of(y, y + count, [](float v) { return std::isfinite(v); })) return;
      for (int seen = first_; node < seen && !first_.compare_exchange_weak(seen, node);) {
      }
    }
    int first() const { return first_; }

   private:
    std::atomic<int> first_;
  };
  const int none = static_cast<int>(network_.nodes().size());
  FiniteWatcher watcher(none);
  ForwardAgain(step, parameters, buffers, load, &watcher);
  return watcher.first() == none ? nullptr : &network_.nodes()[watcher.first()];
}

}  // namespace lockstep
