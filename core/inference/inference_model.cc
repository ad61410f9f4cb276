#include "core/inference/inference_model.h"

#include <algorithm>

#include "core/inference/inference_pass.h"
#include "core/network/network.h"
#include "core/network/weights_file.h"
#include "core/tensor/aligned_buffer.h"

namespace lockstep {

struct InferenceModel::Arena::Memory {
  AlignedBuffer<std::byte> bytes;
};

InferenceModel::Arena::Arena() : memory_(std::make_unique<Memory>()) {}
InferenceModel::Arena::~Arena() = default;

int64_t RowSize(std::span<const ModelTensor> tensors) {
  int64_t size = 0;
  for (const ModelTensor& tensor : tensors) size += tensor.size;
  return size;
}

namespace {

template <typename Edge>
std::vector<ModelTensor> Describe(std::span<const Edge> edges) {
  std::vector<ModelTensor> tensors;
  for (const Edge& edge : edges) {
    const std::span<const int64_t> dims = edge.shape.dims();
    tensors.push_back({edge.name, {dims.begin(), dims.end()}, edge.shape.size()});
  }
  return tensors;
}

std::vector<ModelTensor> DescribeOutputs(const Network& network) {
  std::vector<ModelTensor> outputs = Describe(network.outputs());
  if (outputs.size() == 1) outputs[0].name = "output";
  return outputs;
}

}  // namespace

// A network with its weights.
class NetworkInferenceModel final : public InferenceModel {
 public:
  explicit NetworkInferenceModel(Network network)
      : network_(std::move(network)),
        inputs_(Describe(network_.inputs())),
        outputs_(DescribeOutputs(network_)),
        pass_(network_, std::vector<bool>(outputs_.size())),
        parameters_(network_.parameters_size()),
        buffers_(network_.buffers_size()) {}

  absl::Status Load(std::string_view safetensors) {
    if (auto s = ReadWeights(network_, safetensors, parameters_.span(), buffers_.span()); !s.ok()) {
      return s;
    }
    pass_.SetWeights(*kernels::Kernels(), parameters_.data(), buffers_.data());
    return absl::OkStatus();
  }

  std::span<const ModelTensor> inputs() const override { return inputs_; }
  std::span<const ModelTensor> outputs() const override { return outputs_; }
  int64_t size_bytes() const override {
    return (parameters_.size() + buffers_.size()) * static_cast<int64_t>(sizeof(float)) +
           pass_.PackedBytes();
  }
  void Predict(int64_t samples, std::span<const float> x, std::span<float> y,
               Arena& arena) const override;

 private:
  const Network network_;
  const std::vector<ModelTensor> inputs_;
  const std::vector<ModelTensor> outputs_;
  InferencePass pass_;
  AlignedBuffer<float> parameters_;
  AlignedBuffer<float> buffers_;
};

absl::StatusOr<std::unique_ptr<const InferenceModel>> InferenceModel::Create(
    const v1::ModelSpec& spec, std::string_view safetensors) {
  if (kernels::Kernels() == nullptr) {
    return absl::FailedPreconditionError("this CPU has no AVX2 and FMA, which Lockstep needs");
  }
  v1::ModelSpec filled = spec;
  auto network = Network::Build(&filled);
  if (!network.ok()) return network.status();
  auto model = std::make_unique<NetworkInferenceModel>(*std::move(network));
  if (auto s = model->Load(safetensors); !s.ok()) return s;
  return model;
}

void NetworkInferenceModel::Predict(int64_t samples, std::span<const float> x, std::span<float> y,
                                    Arena& arena) const {
  // Scaled a part at a time, so that it stays in the cache.
  const int64_t most = std::min<int64_t>(InferencePlan::kPartSamples, samples);
  const int64_t input_bytes =
      (most * network_.input().size() * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
  const int64_t needed = input_bytes + pass_.MemoryBytes();
  AlignedBuffer<std::byte>& memory = arena.memory_->bytes;
  if (memory.size() < needed) memory = AlignedBuffer<std::byte>(needed);
  float* scaled = reinterpret_cast<float*>(memory.data());
  const kernels::KernelTable& kernels = *kernels::Kernels();
  for (int64_t begin = 0; begin < samples; begin += most) {
    const int64_t part = std::min(most, samples - begin);
    network_.ScaleInputs(kernels, part, x.data() + begin * network_.input().size(), scaled);
    pass_.Run(kernels, part, scaled, y.data() + begin * network_.output().size(),
              memory.data() + input_bytes);
  }
}

}  // namespace lockstep
