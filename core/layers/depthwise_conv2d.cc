#include "core/layers/convolution_spec.h"

namespace lockstep {

// A convolution with a group for each input channel: its kernel [kh, kw, 1, in * multiplier] and
// ours [kh, kw, in, multiplier] are the same memory.
LayerOr BuildDepthwiseConv2D(const BuildContext& c, v1::Layer* layer) {
  v1::DepthwiseConv2D& spec = *layer->mutable_depthwise_conv2d();
  if (auto s = CheckImage(c); !s.ok()) return s;
  const auto axes = CheckImageAxes(c, &spec);
  if (!axes.ok()) return axes.status();
  auto depthwise = DepthwiseSettings(c, *axes, &spec, "kernel");
  if (!depthwise.ok()) return depthwise.status();
  const auto activation = ParseActivation(c, spec.mutable_activation());
  if (!activation.ok()) return activation.status();
  if (!spec.has_use_bias()) spec.set_use_bias(true);
  if (auto s = CheckInitializer(c, "bias_initializer", ZerosInitializer(),
                                spec.mutable_bias_initializer());
      !s.ok()) {
    return s;
  }
  if (auto s = CheckRegularizer(c, "bias_regularizer", spec.bias_regularizer()); !s.ok()) return s;
  depthwise->activation = *activation;
  depthwise->bias =
      BiasIf(spec.use_bias(), depthwise->filters, spec.bias_initializer(), spec.bias_regularizer());
  return MakeConvolution(*std::move(depthwise));
}

}  // namespace lockstep
