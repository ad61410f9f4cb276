#include "core/layers/convolution_spec.h"

namespace lockstep {
namespace {

// Within [1, kMaxConvolutionExtent].
absl::Status CheckExtent(const BuildContext& c, absl::string_view field, int64_t value) {
  if (value >= 1 && value <= kMaxConvolutionExtent) return absl::OkStatus();
  return FieldError(c, field,
                    absl::StrCat("must be within [1, ", kMaxConvolutionExtent, "], got ", value));
}

}  // namespace

// y = activation(x (*) kernel + bias): x [N, L, in], kernel [k, in / groups, filters],
// y [N, OL, filters].
LayerOr BuildConv1D(const BuildContext& c, v1::Layer* layer) {
  v1::Conv1D& spec = *layer->mutable_conv1d();
  if (auto s = CheckSequence(c); !s.ok()) return s;
  if (auto s = CheckFilters(c, spec.filters()); !s.ok()) return s;
  if (!spec.has_strides()) spec.set_strides(1);
  if (!spec.has_dilation_rate()) spec.set_dilation_rate(1);
  if (!spec.has_groups()) spec.set_groups(1);
  absl::Status status = CheckExtent(c, "kernel_size", spec.kernel_size());
  status.Update(CheckExtent(c, "strides", spec.strides()));
  status.Update(CheckExtent(c, "dilation_rate", spec.dilation_rate()));
  if (!status.ok()) return status;
  const auto axes = CheckAxes(c,
                              {.kernel = {spec.kernel_size()},
                               .strides = {spec.strides()},
                               .dilation = {spec.dilation_rate()}},
                              spec.mutable_padding(), spec.explicit_padding());
  if (!axes.ok()) return axes.status();
  if (auto s = CheckGroups(c, spec.filters(), spec.groups()); !s.ok()) return s;
  const int64_t in = c.input()[1];
  const std::vector<int64_t> shape = {spec.kernel_size(), in / spec.groups(), spec.filters()};
  if (auto s = CheckKernelSize(c, "filters", shape); !s.ok()) return s;
  const auto activation = CheckWeights(c, &spec);
  if (!activation.ok()) return activation.status();
  const kernels::ConvolutionAxis& w = (*axes)[0];
  return MakeConvolution(
      {.h = {.in = 1, .out = 1, .kernel = 1},
       .w = w,
       .in = in,
       .filters = spec.filters(),
       .groups = spec.groups(),
       .activation = *activation,
       .output = {w.out, spec.filters()},
       .kernel = KernelSpec("kernel", shape, spec.kernel_initializer(), spec.kernel_regularizer()),
       .bias = BiasIf(spec.use_bias(), spec.filters(), spec.bias_initializer(),
                      spec.bias_regularizer())});
}

}  // namespace lockstep
