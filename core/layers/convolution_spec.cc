#include "core/layers/convolution_spec.h"

#include <algorithm>

#include "core/data/tensor.h"

namespace lockstep {
namespace {

using kernels::ConvolutionAxis;

// Pixels from the first tap to the last.
int64_t Extent(int64_t kernel, int64_t dilation) { return (kernel - 1) * dilation + 1; }

// Zeros before and after the pixels of an axis.
struct Padding {
  int64_t before = 0;
  int64_t after = 0;
};

ConvolutionAxis MakeAxis(int64_t in, int64_t kernel, int64_t stride, int64_t dilation,
                         const Padding& padding) {
  const int64_t space = in + padding.before + padding.after - Extent(kernel, dilation);
  return {.in = in,
          .out = space / stride + 1,
          .kernel = kernel,
          .stride = stride,
          .dilation = dilation,
          .pad = padding.before};
}

// As in Keras: ceil(in / stride) outputs, with an odd total of padding's extra pixel at the end.
Padding SamePadding(int64_t in, int64_t extent, int64_t stride) {
  const int64_t out = (in + stride - 1) / stride;
  const int64_t total = std::max<int64_t>(0, (out - 1) * stride + extent - in);
  return {total / 2, total - total / 2};
}

absl::Status CheckPaddingName(const BuildContext& c, size_t axes, const std::string& padding) {
  const bool known = padding == "valid" || padding == "same" || padding == "explicit" ||
                     (padding == "causal" && axes == 1);
  if (known) return absl::OkStatus();
  return FieldError(c, "padding",
                    absl::StrCat("must be valid, same", axes == 1 ? ", causal" : "",
                                 " or explicit; got \"", padding, "\""));
}

}  // namespace

absl::StatusOr<ConvolutionExtents> ParseExtents(
    const BuildContext& c, google::protobuf::RepeatedField<int64_t>* kernel_size,
    google::protobuf::RepeatedField<int64_t>* strides,
    google::protobuf::RepeatedField<int64_t>* dilation_rate) {
  if (kernel_size->empty()) {
    return FieldError(c, "kernel_size", "is required: [height, width], or one number");
  }
  constexpr int64_t kMost = kMaxConvolutionExtent;
  auto kernel = ParsePair(c, "kernel_size", kernel_size, {1, 1}, kMost);
  if (!kernel.ok()) return kernel.status();
  auto stride = ParsePair(c, "strides", strides, {1, 1}, kMost);
  if (!stride.ok()) return stride.status();
  auto dilation = ParsePair(c, "dilation_rate", dilation_rate, {1, 1}, kMost);
  if (!dilation.ok()) return dilation.status();
  return ConvolutionExtents{.kernel = {kernel->height, kernel->width},
                            .strides = {stride->height, stride->width},
                            .dilation = {dilation->height, dilation->width}};
}

absl::StatusOr<std::vector<ConvolutionAxis>> CheckAxes(
    const BuildContext& c, const ConvolutionExtents& extents, std::string* padding,
    const google::protobuf::RepeatedField<int64_t>& explicit_padding) {
  const size_t axes = extents.kernel.size();
  if (padding->empty()) *padding = "valid";
  if (auto s = CheckPaddingName(c, axes, *padding); !s.ok()) return s;
  if (*padding != "explicit" && !explicit_padding.empty()) {
    return FieldError(
        c, "explicit_padding",
        absl::StrCat("needs padding \"explicit\", but padding is \"", *padding, "\""));
  }
  if (*padding == "explicit" && static_cast<size_t>(explicit_padding.size()) != 2 * axes) {
    return FieldError(c, "explicit_padding",
                      absl::StrCat("must have ", 2 * axes, " numbers, ",
                                   axes == 1 ? "[before, after]" : "[top, bottom, left, right]",
                                   "; got ", explicit_padding.size()));
  }
  std::vector<int64_t> reach;
  for (size_t i = 0; i < axes; ++i) {
    reach.push_back(Extent(extents.kernel[i], extents.dilation[i]));
  }
  const std::string kernel = absl::StrCat(
      ShapeString(extents.kernel),
      reach == extents.kernel ? "" : absl::StrCat(", dilated to ", ShapeString(reach), " pixels,"));
  const std::string input = ShapeString(c.input().dims());
  std::vector<ConvolutionAxis> list;
  for (size_t i = 0; i < axes; ++i) {
    const int64_t in = c.input()[static_cast<int>(i)];
    Padding zeros;
    if (*padding == "same") zeros = SamePadding(in, reach[i], extents.strides[i]);
    if (*padding == "causal") zeros.before = reach[i] - 1;
    if (*padding == "explicit") {
      zeros = {explicit_padding[static_cast<int>(2 * i)],
               explicit_padding[static_cast<int>(2 * i + 1)]};
      // More would give outputs that see nothing but zeros.
      for (int64_t pad : {zeros.before, zeros.after}) {
        if (pad >= 0 && pad < reach[i]) continue;
        return FieldError(c, "explicit_padding",
                          absl::StrCat("must be within [0, ", reach[i] - 1,
                                       "], less than the kernel's extent, got ", pad));
      }
    }
    if (reach[i] > in + zeros.before + zeros.after) {
      return FieldError(c, "kernel_size",
                        absl::StrCat(kernel, " does not fit the input ", input, " with padding \"",
                                     *padding, "\""));
    }
    // A larger kernel than the padded image could ever fill is a mistake, and costs memory.
    if (reach[i] > 2 * in + 1) {
      return FieldError(c, "kernel_size",
                        absl::StrCat(kernel, " is more than twice the input ", input));
    }
    list.push_back(MakeAxis(in, extents.kernel[i], extents.strides[i], extents.dilation[i], zeros));
  }
  return list;
}

absl::Status CheckFilters(const BuildContext& c, int64_t filters) {
  if (filters >= 1) return absl::OkStatus();
  return FieldError(c, "filters", absl::StrCat("must be >= 1, got ", filters));
}

absl::Status CheckGroups(const BuildContext& c, int64_t filters, int64_t groups) {
  const int64_t in = c.input().channels();
  if (groups >= 1 && in % groups == 0 && filters % groups == 0) return absl::OkStatus();
  return FieldError(c, "groups",
                    absl::StrCat("must be >= 1 and divide the ", in, " input channels and the ",
                                 filters, " filters; got ", groups));
}

absl::Status CheckKernelSize(const BuildContext& c, absl::string_view field,
                             const std::vector<int64_t>& shape) {
  int64_t most = kMaxElements;
  for (size_t i = 0; i + 1 < shape.size(); ++i) most /= shape[i];
  if (shape.back() <= most) return absl::OkStatus();
  return FieldError(c, field,
                    absl::StrCat("kernel ", ShapeString(shape), " is too large; at most ",
                                 kMaxElements, " values"));
}

TensorSpec KernelSpec(std::string name, std::vector<int64_t> shape,
                      const v1::Initializer& initializer, const v1::Regularizer& regularizer) {
  const int64_t outputs = shape.back();
  const int64_t inputs = shape[shape.size() - 2];
  const int64_t taps = ElementCount(shape) / inputs / outputs;
  return {.name = std::move(name),
          .shape = std::move(shape),
          .initializer = initializer,
          .fan_in = taps * inputs,
          .fan_out = taps * outputs,
          .regularizer = regularizer};
}

std::optional<TensorSpec> BiasIf(bool use_bias, int64_t filters, const v1::Initializer& initializer,
                                 const v1::Regularizer& regularizer) {
  if (!use_bias) return std::nullopt;
  return TensorSpec{.name = "bias",
                    .shape = {filters},
                    .initializer = initializer,
                    .fan_in = filters,
                    .fan_out = filters,
                    .gradient = GradientKind::kSum,
                    .regularizer = regularizer};
}

}  // namespace lockstep
