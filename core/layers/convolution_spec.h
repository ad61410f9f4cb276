#ifndef LOCKSTEP_CORE_LAYERS_CONVOLUTION_SPEC_H_
#define LOCKSTEP_CORE_LAYERS_CONVOLUTION_SPEC_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/kernels/convolution.h"
#include "core/layers/build.h"

// What the convolutions' specs have in common, and the one layer that they all become.
namespace lockstep {

// A convolution of x [N, H, W, in]; that of a sequence is one of images of height 1.
struct ConvolutionSettings {
  kernels::ConvolutionAxis h, w;
  int64_t in;
  int64_t filters;
  int64_t groups;
  kernels::ActivationFunction activation;
  Shape output;
  TensorSpec kernel;  // in memory [kh, kw, in / groups, filters], whatever its shape
  std::optional<TensorSpec> bias;
};

// y = activation(x (*) kernel + bias). In conv2d.cc.
std::unique_ptr<const Layer> MakeConvolution(ConvolutionSettings settings);

// Kernel sizes, strides and dilations go up to this, which bounds what a step sets up beside the
// arithmetic: a tap or a stride's remainder costs a few bytes.
inline constexpr int64_t kMaxConvolutionExtent = 256;

// One axis or two of a spec, with its defaults.
struct ConvolutionExtents {
  std::vector<int64_t> kernel, strides, dilation;
};

// Where each output pixel's taps lie, one element an axis of the input but the last. `padding` is
// "valid" if empty, "same", "explicit" with two numbers an axis in `explicit_padding`, or for one
// axis "causal".
absl::StatusOr<std::vector<kernels::ConvolutionAxis>> CheckAxes(
    const BuildContext& c, const ConvolutionExtents& extents, std::string* padding,
    const google::protobuf::RepeatedField<int64_t>& explicit_padding);

// The same for a spec over images: reads kernel_size, strides, dilation_rate, padding and
// explicit_padding.
absl::StatusOr<ConvolutionExtents> ParseExtents(
    const BuildContext& c, google::protobuf::RepeatedField<int64_t>* kernel_size,
    google::protobuf::RepeatedField<int64_t>* strides,
    google::protobuf::RepeatedField<int64_t>* dilation_rate);
template <typename Spec>
absl::StatusOr<std::vector<kernels::ConvolutionAxis>> CheckImageAxes(const BuildContext& c,
                                                                     Spec* spec) {
  auto extents = ParseExtents(c, spec->mutable_kernel_size(), spec->mutable_strides(),
                              spec->mutable_dilation_rate());
  if (!extents.ok()) return extents.status();
  return CheckAxes(c, *extents, spec->mutable_padding(), spec->explicit_padding());
}

absl::Status CheckFilters(const BuildContext& c, int64_t filters);
absl::Status CheckGroups(const BuildContext& c, int64_t filters, int64_t groups);

// Refuses a kernel of too many values because of its last dimension, which is `field` in the spec
// or follows from it; the others' product must be at most kMaxElements.
absl::Status CheckKernelSize(const BuildContext& c, absl::string_view field,
                             const std::vector<int64_t>& shape);

// [..., inputs, outputs]: what initializers count as fans is these times the taps before them.
TensorSpec KernelSpec(std::string name, std::vector<int64_t> shape,
                      const v1::Initializer& initializer, const v1::Regularizer& regularizer);
std::optional<TensorSpec> BiasIf(bool use_bias, int64_t filters, const v1::Initializer& initializer,
                                 const v1::Regularizer& regularizer);

// The convolution of a spec with a depth_multiplier, a group for each input channel, without
// activation and bias: kernel [kh, kw, in, depth_multiplier].
template <typename Spec>
absl::StatusOr<ConvolutionSettings> DepthwiseSettings(
    const BuildContext& c, const std::vector<kernels::ConvolutionAxis>& axes, Spec* spec,
    std::string kernel_name) {
  if (!spec->has_depth_multiplier()) spec->set_depth_multiplier(1);
  const int64_t multiplier = spec->depth_multiplier();
  if (multiplier < 1) {
    return FieldError(c, "depth_multiplier", absl::StrCat("must be >= 1, got ", multiplier));
  }
  const int64_t in = c.input().channels();
  std::vector<int64_t> shape = {axes[0].kernel, axes[1].kernel, in, multiplier};
  if (auto s = CheckKernelSize(c, "depth_multiplier", shape); !s.ok()) return s;
  if (auto s = CheckInitializer(c, "depthwise_initializer", GlorotUniformInitializer(),
                                spec->mutable_depthwise_initializer());
      !s.ok()) {
    return s;
  }
  if (auto s = CheckRegularizer(c, "depthwise_regularizer", spec->depthwise_regularizer());
      !s.ok()) {
    return s;
  }
  return ConvolutionSettings{
      .h = axes[0],
      .w = axes[1],
      .in = in,
      .filters = in * multiplier,
      .groups = in,
      .activation = {kernels::Activation::kLinear},
      .output = {axes[0].out, axes[1].out, in * multiplier},
      .kernel = KernelSpec(std::move(kernel_name), std::move(shape), spec->depthwise_initializer(),
                           spec->depthwise_regularizer()),
      .bias = std::nullopt};
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_CONVOLUTION_SPEC_H_
