#include "core/inference/inference_pass.h"

#include <algorithm>

namespace lockstep {
namespace {

int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

InferencePass::InferencePass(const Network& network, bool logits)
    : network_(network), logits_(logits) {
  for (const Network::Node& node : network.nodes()) {
    largest_ = std::max(largest_, node.output.size());
    scratch_bytes_ = std::max(scratch_bytes_, RoundUp(node.layer->infer_scratch_bytes()));
  }
}

int64_t InferencePass::MemoryBytes(int64_t samples) const {
  return 2 * RoundUp(samples * largest_ * static_cast<int64_t>(sizeof(float))) + scratch_bytes_;
}

void InferencePass::Run(const kernels::KernelTable& kernels, const float* parameters,
                        const float* buffers, int64_t samples, const float* x, float* y,
                        std::byte* memory) const {
  const std::vector<const float*> parameter = TensorPointers(network_.parameters(), parameters);
  const std::vector<const float*> buffer = TensorPointers(network_.buffers(), buffers);
  const int64_t half = RoundUp(samples * largest_ * static_cast<int64_t>(sizeof(float)));
  float* out[2] = {reinterpret_cast<float*>(memory), reinterpret_cast<float*>(memory + half)};
  for (size_t i = 0; i < network_.nodes().size(); ++i) {
    const Network::Node& node = network_.nodes()[i];
    if (node.layer->is_view()) continue;
    node.layer->Infer(
        {.kernels = &kernels,
         .samples = samples,
         .x = x,
         .y = out[0],
         .parameters = std::span(parameter).subspan(node.first_parameter, node.parameter_count),
         .buffers = std::span(buffer).subspan(node.first_buffer, node.buffer_count),
         .scratch = memory + 2 * half,
         .logits = logits_ && i + 1 == network_.nodes().size()});
    x = out[0];
    std::swap(out[0], out[1]);
  }
  std::copy_n(x, samples * network_.output().size(), y);
}

}  // namespace lockstep
