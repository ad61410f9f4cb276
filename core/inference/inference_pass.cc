#include "core/inference/inference_pass.h"

#include <algorithm>
#include <array>

namespace lockstep {
namespace {

std::vector<const float*> Pointers(std::span<const NetworkTensor> tensors, int first, int count,
                                   const float* flat) {
  std::vector<const float*> pointers;
  for (const NetworkTensor& tensor : tensors.subspan(first, count)) {
    pointers.push_back(flat + tensor.offset);
  }
  return pointers;
}

// kernel'[.., c] = kernel[.., c] * scale[c] and bias'[c] = bias[c] * scale[c] + offset[c], computed
// in double.
void Fold(int64_t kernel_size, int64_t channels, const float* kernel, const float* bias,
          const double* scale, const double* offset, float* folded) {
  for (int64_t i = 0; i < kernel_size; ++i) {
    folded[i] = static_cast<float>(kernel[i] * scale[i % channels]);
  }
  for (int64_t c = 0; c < channels; ++c) {
    folded[kernel_size + c] =
        static_cast<float>((bias == nullptr ? 0.0 : bias[c]) * scale[c] + offset[c]);
  }
}

}  // namespace

InferencePass::InferencePass(const Network& network, const std::vector<bool>& logits)
    : network_(network),
      logits_(network.AtOutputs(logits)),
      plan_(network),
      packed_(plan_.packed_bytes()),
      folded_(plan_.folded_floats()) {}

void InferencePass::SetWeights(const kernels::KernelTable& kernels, const float* parameters,
                               const float* buffers) {
  const auto weights_of = [&](int i) {
    const Network::Node& node = network_.nodes()[i];
    return Weights{
        Pointers(network_.parameters(), node.first_parameter, node.parameter_count, parameters),
        Pointers(network_.buffers(), node.first_buffer, node.buffer_count, buffers)};
  };
  weights_.assign(network_.nodes().size(), {});
  for (const InferencePlan::Phase& phase : plan_.phases()) {
    for (const InferencePlan::Call& call : phase.calls) {
      const Network::Node& node = network_.nodes()[call.node];
      Weights& weights = weights_[call.node];
      weights = weights_of(call.node);
      if (call.folded >= 0) {
        const Weights affine = weights_of(call.folded);
        const int64_t kernel_size = network_.parameters()[node.first_parameter].size;
        const int64_t channels = node.output.channels();
        std::vector<double> scale(channels);
        std::vector<double> offset(channels);
        network_.nodes()[call.folded].layer->InferenceAffine(affine.parameters, affine.buffers,
                                                             scale.data(), offset.data());
        float* folded = folded_.data() + call.folded_offset;
        Fold(kernel_size, channels, weights.parameters[0],
             weights.parameters.size() > 1 ? weights.parameters[1] : nullptr, scale.data(),
             offset.data(), folded);
        weights.parameters = {folded, folded + kernel_size};
      }
      if (node.layer->packed_bytes(Pass::kInference) == 0) continue;
      node.layer->Pack({.kernels = &kernels,
                        .pass = Pass::kInference,
                        .parameters = weights.parameters,
                        .buffers = weights.buffers,
                        .packed = packed_.data() + call.packed_offset});
    }
  }
}

void InferencePass::Run(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                        float* y, std::byte* memory) const {
  for (int64_t n = 0; n < samples; n += InferencePlan::kPartSamples) {
    RunPart(kernels, std::min(InferencePlan::kPartSamples, samples - n),
            x + n * network_.input().size(), y + n * network_.output().size(), memory);
  }
}

void InferencePass::RunPart(const kernels::KernelTable& kernels, int64_t samples, const float* x,
                            float* y, std::byte* memory) const {
  if (plan_.output() == 0) {
    std::copy_n(x, samples * network_.input().size(), y);
    return;
  }
  // The value's first sample of a tile that begins at `begin`.
  const auto at = [&](int v, int64_t begin) -> float* {
    const InferencePlan::Value& value = plan_.value(v);
    const int64_t skipped = begin * network_.shape(v).size();
    switch (value.kind) {
      case InferencePlan::Value::Kind::kOutside:
        return (v == 0 ? const_cast<float*>(x) : y) + skipped;
      case InferencePlan::Value::Kind::kPart:
        return reinterpret_cast<float*>(memory + value.piece.offset) + skipped;
      default:
        return reinterpret_cast<float*>(memory + plan_.tile_offset() + value.piece.offset);
    }
  };
  for (const InferencePlan::Phase& phase : plan_.phases()) {
    for (int64_t n = 0; n < samples; n += phase.tile_samples) {
      const int64_t tile = std::min(phase.tile_samples, samples - n);
      for (const InferencePlan::Call& call : phase.calls) {
        std::array<const float*, Network::kMaxInputs> inputs;
        for (size_t i = 0; i < call.inputs.size(); ++i) inputs[i] = at(call.inputs[i], n);
        network_.nodes()[call.node].layer->Infer(
            {.kernels = &kernels,
             .samples = tile,
             .inputs = std::span(inputs).first(call.inputs.size()),
             .y = at(call.output, n),
             .parameters = weights_[call.node].parameters,
             .packed = packed_.data() + call.packed_offset,
             .scratch = memory + plan_.scratch_offset(),
             .logits = logits_[call.node],
             .relu = call.relu});
      }
    }
  }
}

}  // namespace lockstep
