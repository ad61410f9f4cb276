#include "core/network/training_pass.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lockstep {
namespace {

// Cuts an arena into pieces that start on cache lines. Without memory it only counts.
class Cutter {
 public:
  explicit Cutter(std::byte* memory) : memory_(memory) {}

  std::byte* Take(int64_t bytes) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (bytes + 63) / 64 * 64;
    return piece;
  }
  float* TakeFloats(int64_t count) {
    return reinterpret_cast<float*>(Take(count * static_cast<int64_t>(sizeof(float))));
  }
  int64_t used() const { return used_; }

 private:
  std::byte* memory_;
  int64_t used_ = 0;
};

struct Layout {
  float* input;
  std::vector<float*> outputs;
  std::vector<std::byte*> saved;
  float* gradients[2];
  std::byte* scratch;
  int64_t bytes;
};

Layout Plan(const Network& network, const Capacity& capacity, std::byte* memory) {
  Cutter cutter(memory);
  Layout layout;
  layout.input = cutter.TakeFloats(capacity.samples * network.input().size());
  int64_t largest = 0;
  int64_t scratch = 0;
  float* x = layout.input;
  for (const Network::Node& node : network.nodes()) {
    const int64_t size = capacity.samples * node.output.size();
    if (!node.layer->is_view()) x = cutter.TakeFloats(size);
    layout.outputs.push_back(x);
    layout.saved.push_back(cutter.Take(node.layer->saved_bytes(capacity)));
    largest = std::max(largest, size);
    scratch = std::max(scratch, node.layer->scratch_bytes(capacity));
  }
  for (float*& gradient : layout.gradients) gradient = cutter.TakeFloats(largest);
  layout.scratch = cutter.Take(scratch);
  layout.bytes = cutter.used();
  return layout;
}

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
  return Plan(network, capacity, nullptr).bytes + floats * static_cast<int64_t>(sizeof(float)) +
         doubles * static_cast<int64_t>(sizeof(double));
}

TrainingPass::TrainingPass(const Network& network, const Capacity& capacity, int nodes, bool logits)
    : network_(network),
      logits_(logits),
      arena_(Plan(network, capacity, nullptr).bytes),
      contractions_(nodes * network.parameters_size()),
      sums_(nodes * SizeOfKind(network, GradientKind::kSum)),
      globals_(SizeOfKind(network, GradientKind::kGlobal)),
      sums_size_(SizeOfKind(network, GradientKind::kSum)) {
  Layout layout = Plan(network, capacity, arena_.data());
  input_ = layout.input;
  outputs_ = std::move(layout.outputs);
  saved_ = std::move(layout.saved);
  std::copy(std::begin(layout.gradients), std::end(layout.gradients), gradients_);
  scratch_ = layout.scratch;
  int64_t sums = 0;
  int64_t globals = 0;
  for (const NetworkTensor& tensor : network.parameters()) {
    switch (tensor.spec.gradient) {
      case GradientKind::kContraction:
        gradient_offset_.push_back(tensor.offset);
        break;
      case GradientKind::kSum:
        gradient_offset_.push_back(std::exchange(sums, sums + tensor.size));
        break;
      case GradientKind::kGlobal:
        gradient_offset_.push_back(std::exchange(globals, globals + tensor.size));
        break;
    }
  }
}

void TrainingPass::Forward(const StepContext& step, const float* parameters, float* buffers) {
  const std::vector<const float*> parameter = TensorPointers(network_.parameters(), parameters);
  const std::vector<float*> buffer = TensorPointers(network_.buffers(), buffers);
  const float* x = input_;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Network::Node& node = network_.nodes()[i];
    if (!node.layer->is_view()) {
      node.layer->Forward(
          {.step = step,
           .x = x,
           .y = outputs_[i],
           .parameters = std::span(parameter).subspan(node.first_parameter, node.parameter_count),
           .buffers = std::span(buffer).subspan(node.first_buffer, node.buffer_count),
           .saved = saved_[i],
           .scratch = scratch_,
           .logits = logits_ && i + 1 == outputs_.size()});
    }
    x = outputs_[i];
  }
}

void TrainingPass::Backward(const StepContext& step, const float* parameters) {
  const std::vector<const float*> parameter = TensorPointers(network_.parameters(), parameters);
  std::vector<float*> gradient;
  std::vector<double*> sum;
  for (size_t p = 0; p < gradient_offset_.size(); ++p) {
    const GradientKind kind = network_.parameters()[p].spec.gradient;
    float* floats = kind == GradientKind::kGlobal ? globals_.data() : contractions_.data();
    gradient.push_back(kind == GradientKind::kSum ? nullptr : floats + gradient_offset_[p]);
    sum.push_back(kind == GradientKind::kSum ? sums_.data() + gradient_offset_[p] : nullptr);
  }

  // Below this one nothing has parameters, so nobody needs a gradient there.
  size_t first = 0;
  while (first < outputs_.size() && network_.nodes()[first].parameter_count == 0) ++first;

  float* dy = gradients_[0];
  float* dx = gradients_[1];
  for (size_t i = outputs_.size(); i-- > first;) {
    const Network::Node& node = network_.nodes()[i];
    if (node.layer->is_view()) continue;
    node.layer->Backward(
        {.step = step,
         .x = i == 0 ? input_ : outputs_[i - 1],
         .y = outputs_[i],
         .dy = dy,
         .dx = i == first ? nullptr : dx,
         .parameters = std::span(parameter).subspan(node.first_parameter, node.parameter_count),
         .gradients = std::span(gradient).subspan(node.first_parameter, node.parameter_count),
         .gradient_node_stride = network_.parameters_size(),
         .sums = std::span(sum).subspan(node.first_parameter, node.parameter_count),
         .sum_node_stride = sums_size_,
         .saved = saved_[i],
         .scratch = scratch_,
         .logits = logits_ && i + 1 == outputs_.size()});
    std::swap(dy, dx);
  }
}

void TrainingPass::Reduce(const StepContext& step) {
  std::vector<int64_t> counts;
  for (const ShardNode& node : step.batch->nodes) counts.push_back(step.batch->node_samples(node));
  step.collective->CombineGradients(network_.parameters_size(), contractions_.span(), counts);
  step.collective->CombineSums(sums_size_, sums_.span(), counts);
  for (size_t p = 0; p < gradient_offset_.size(); ++p) {
    const NetworkTensor& tensor = network_.parameters()[p];
    float* out = contractions_.data() + tensor.offset;
    if (tensor.spec.gradient == GradientKind::kSum) {
      const double* sum = sums_.data() + gradient_offset_[p];
      std::transform(sum, sum + tensor.size, out, [](double v) { return static_cast<float>(v); });
    } else if (tensor.spec.gradient == GradientKind::kGlobal) {
      std::copy_n(globals_.data() + gradient_offset_[p], tensor.size, out);
    }
  }
}

const Network::Node* TrainingPass::FirstNonFinite(int64_t samples) const {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Network::Node& node = network_.nodes()[i];
    const float* y = outputs_[i];
    if (!std::all_of(y, y + samples * node.output.size(),
                     [](float v) { return std::isfinite(v); })) {
      return &node;
    }
  }
  return nullptr;
}

}  // namespace lockstep
