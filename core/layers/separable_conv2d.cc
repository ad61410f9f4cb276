#include <algorithm>

#include "core/data/tensor.h"
#include "core/layers/convolution_spec.h"

namespace lockstep {
namespace {

// The bytes of two things one behind the other, the second on a cache line of its own.
int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// y = activation(pointwise(depthwise(x)) + bias): two convolutions, one after the other on each
// tile. What lies between them is kept for the backward pass. Their memory lies side by side, the
// depthwise one's first; both have the same positions, so also the same chunks.
class SeparableConv2D final : public Layer {
 public:
  SeparableConv2D(std::unique_ptr<const Layer> depthwise, std::unique_ptr<const Layer> pointwise)
      : depthwise_(std::move(depthwise)),
        pointwise_(std::move(pointwise)),
        between_(depthwise_->output_shape().size()) {}

  Shape output_shape() const override { return pointwise_->output_shape(); }

  LayerTraits traits() const override {
    LayerTraits traits = pointwise_->traits();
    traits.absorbs_affine = false;
    traits.dx_may_be_x = false;
    traits.backward_reads_packed = true;
    return traits;
  }

  std::vector<TensorSpec> parameters() const override {
    std::vector<TensorSpec> list = depthwise_->parameters();
    for (TensorSpec& spec : pointwise_->parameters()) list.push_back(std::move(spec));
    return list;
  }

  int64_t chunk_samples() const override { return depthwise_->chunk_samples(); }

  int64_t packed_bytes(Pass pass) const override {
    return RoundUp(depthwise_->packed_bytes(pass)) + pointwise_->packed_bytes(pass);
  }
  int64_t saved_bytes(const Capacity& capacity) const override {
    return RoundUp(BetweenBytes(capacity.samples)) + RoundUp(depthwise_->saved_bytes(capacity)) +
           pointwise_->saved_bytes(capacity);
  }
  int64_t backward_sums_bytes(const Capacity& capacity) const override {
    return RoundUp(depthwise_->backward_sums_bytes(capacity)) +
           pointwise_->backward_sums_bytes(capacity);
  }
  int64_t scratch_bytes(int64_t tile_samples) const override {
    return RoundUp(BetweenBytes(tile_samples)) + std::max(depthwise_->scratch_bytes(tile_samples),
                                                          pointwise_->scratch_bytes(tile_samples));
  }
  int64_t infer_scratch_bytes(int64_t samples) const override {
    return RoundUp(BetweenBytes(samples)) + std::max(depthwise_->infer_scratch_bytes(samples),
                                                     pointwise_->infer_scratch_bytes(samples));
  }

  void Pack(const PackContext& c) const override {
    PackContext part = c;
    part.parameters = c.parameters.first(1);
    depthwise_->Pack(part);
    part.parameters = c.parameters.subspan(1);
    part.packed = c.packed + RoundUp(depthwise_->packed_bytes(c.pass));
    pointwise_->Pack(part);
  }

  void Forward(const ForwardContext& c) const override {
    float* between = Between(c);
    const float* const input = between;
    depthwise_->Forward({Depthwise(c), c.inputs, between, /*relu=*/false, {}});
    pointwise_->Forward({Pointwise(c, Pass::kForward), {&input, 1}, c.y, c.relu, {}});
  }

  void Infer(const InferContext& c) const override {
    auto* between = reinterpret_cast<float*>(c.scratch);
    InferContext part = c;
    part.y = between;
    part.parameters = c.parameters.first(1);
    part.scratch = c.scratch + RoundUp(BetweenBytes(c.samples));
    part.relu = false;
    depthwise_->Infer(part);
    const float* const input = between;
    part.inputs = {&input, 1};
    part.y = c.y;
    part.parameters = c.parameters.subspan(1);
    part.packed = c.packed + RoundUp(depthwise_->packed_bytes(Pass::kInference));
    part.relu = c.relu;
    pointwise_->Infer(part);
  }

  void Backward(const BackwardContext& c) const override {
    auto* gradient = reinterpret_cast<float*>(c.scratch);
    pointwise_->Backward(BackwardOfPointwise(c, &gradient));
    depthwise_->Backward(BackwardOfDepthwise(c, gradient));
  }

  void FinishBackward(const BackwardContext& c) const override {
    float* none = nullptr;
    pointwise_->FinishBackward(BackwardOfPointwise(c, &none));
    depthwise_->FinishBackward(BackwardOfDepthwise(c, nullptr));
  }

 private:
  int64_t BetweenBytes(int64_t samples) const {
    return samples * between_ * static_cast<int64_t>(sizeof(float));
  }
  // The tile's values between the two.
  float* Between(const LayerContext& c) const {
    return reinterpret_cast<float*>(c.saved + BetweenBytes(c.tile.begin));
  }
  static Capacity Here(const LayerContext& c) {
    return {c.step.batch->samples, c.step.batch->shards()};
  }

  LayerContext Depthwise(const LayerContext& c) const {
    LayerContext part = c;
    part.parameters = c.parameters.first(1);
    part.saved = c.saved + RoundUp(BetweenBytes(c.step.batch->samples));
    part.scratch = c.scratch + RoundUp(BetweenBytes(c.tile.samples));
    return part;
  }
  LayerContext Pointwise(const LayerContext& c, Pass pass) const {
    LayerContext part = Depthwise(c);
    part.parameters = c.parameters.subspan(1);
    part.packed = c.packed + RoundUp(depthwise_->packed_bytes(pass));
    part.saved += RoundUp(depthwise_->saved_bytes(Here(c)));
    if (pass == Pass::kBackward) {
      part.sums = c.sums + RoundUp(depthwise_->backward_sums_bytes(Here(c)));
    }
    return part;
  }

  // dx goes to `*gradient`, which must outlive the context.
  BackwardContext BackwardOfPointwise(const BackwardContext& c, float* const* gradient) const {
    return {Pointwise(c, Pass::kBackward),
            Between(c),
            c.y,
            c.dy,
            {gradient, 1},
            /*adds=*/false,
            c.gradients.subspan(1),
            c.gradient_node_stride,
            c.parameter_sums.subspan(1),
            c.sum_node_stride,
            {},
            c.trainable};
  }
  BackwardContext BackwardOfDepthwise(const BackwardContext& c, float* gradient) const {
    return {Depthwise(c),
            c.x,
            nullptr,
            gradient,
            c.input_gradients,
            c.adds,
            c.gradients.first(1),
            c.gradient_node_stride,
            c.parameter_sums.first(1),
            c.sum_node_stride,
            {},
            c.trainable};
  }

  const std::unique_ptr<const Layer> depthwise_;
  const std::unique_ptr<const Layer> pointwise_;
  const int64_t between_;  // floats a sample
};

}  // namespace

LayerOr BuildSeparableConv2D(const BuildContext& c, v1::Layer* layer) {
  v1::SeparableConv2D& spec = *layer->mutable_separable_conv2d();
  if (auto s = CheckImage(c); !s.ok()) return s;
  if (auto s = CheckFilters(c, spec.filters()); !s.ok()) return s;
  const auto axes = CheckImageAxes(c, &spec);
  if (!axes.ok()) return axes.status();
  auto depthwise = DepthwiseSettings(c, *axes, &spec, "depthwise_kernel");
  if (!depthwise.ok()) return depthwise.status();
  const std::vector<int64_t> shape = {1, 1, depthwise->filters, spec.filters()};
  if (auto s = CheckKernelSize(c, "filters", shape); !s.ok()) return s;
  const auto activation = ParseActivation(c, spec.mutable_activation());
  if (!activation.ok()) return activation.status();
  if (!spec.has_use_bias()) spec.set_use_bias(true);
  absl::Status status = CheckInitializer(c, "pointwise_initializer", GlorotUniformInitializer(),
                                         spec.mutable_pointwise_initializer());
  status.Update(
      CheckInitializer(c, "bias_initializer", ZerosInitializer(), spec.mutable_bias_initializer()));
  status.Update(CheckRegularizer(c, "pointwise_regularizer", spec.pointwise_regularizer()));
  status.Update(CheckRegularizer(c, "bias_regularizer", spec.bias_regularizer()));
  if (!status.ok()) return status;
  const int64_t height = depthwise->h.out, width = depthwise->w.out;
  const int64_t between = depthwise->filters;
  if (between > kMaxElements / height / width) {
    return FieldError(c, "depth_multiplier",
                      absl::StrCat("the depthwise output ", ShapeString(depthwise->output.dims()),
                                   " is too large; at most ", kMaxElements, " values a sample"));
  }
  return std::make_unique<SeparableConv2D>(
      MakeConvolution(*std::move(depthwise)),
      MakeConvolution({.h = {.in = height, .out = height, .kernel = 1},
                       .w = {.in = width, .out = width, .kernel = 1},
                       .in = between,
                       .filters = spec.filters(),
                       .groups = 1,
                       .activation = *activation,
                       .output = {height, width, spec.filters()},
                       .kernel = KernelSpec("pointwise_kernel", shape, spec.pointwise_initializer(),
                                            spec.pointwise_regularizer()),
                       .bias = BiasIf(spec.use_bias(), spec.filters(), spec.bias_initializer(),
                                      spec.bias_regularizer())}));
}

}  // namespace lockstep
