#include "core/layers/build.h"

#include "absl/strings/str_join.h"
#include "core/data/tensor.h"

namespace lockstep {
namespace {

using kernels::Activation;

struct ActivationName {
  absl::string_view name;
  kernels::ActivationFunction function;
};
constexpr ActivationName kActivations[] = {
    {"linear", {Activation::kLinear}},
    {"relu", {Activation::kRelu}},
    {"relu6", {.kind = Activation::kRectifier, .max_value = 6.0f}},
    {"leaky_relu", {.kind = Activation::kRectifier, .negative_slope = 0.2f}},
    {"elu", {Activation::kElu}},
    // Klambauer et al., "Self-normalizing neural networks", 2017.
    {"selu", {.kind = Activation::kElu, .alpha = 1.67326324f, .scale = 1.05070099f}},
    {"gelu", {Activation::kGelu}},
    {"gelu_tanh", {Activation::kGeluTanh}},
    {"silu", {Activation::kSilu}},
    {"sigmoid", {Activation::kSigmoid}},
    {"hard_sigmoid", {Activation::kHardSigmoid}},
    {"tanh", {Activation::kTanh}},
    {"softplus", {Activation::kSoftplus}},
    {"softmax", {Activation::kSoftmax}},
};

absl::Status CheckRank(const BuildContext& c, int rank, absl::string_view shape) {
  if (c.input().rank() == rank) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(c.path, ": needs input ", shape, ", but \"",
                                                 c.name, "\" gets ", c.input().rank(),
                                                 " dimension(s) a sample"));
}

}  // namespace

absl::Status FieldError(const BuildContext& c, absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(c.path, ".", field, ": ", problem));
}

absl::Status CheckImage(const BuildContext& c) { return CheckRank(c, 3, "[N, H, W, channels]"); }

absl::Status CheckSequence(const BuildContext& c) { return CheckRank(c, 2, "[N, L, channels]"); }

absl::Status CheckOneShape(const BuildContext& c) {
  for (const Shape& other : c.inputs) {
    if (other == c.input()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(c.path, ": needs inputs of one shape, but \"", c.name, "\" gets ",
                     ShapeString(c.input().dims()), " and ", ShapeString(other.dims())));
  }
  return absl::OkStatus();
}

absl::StatusOr<kernels::ActivationFunction> ParseActivation(const BuildContext& c,
                                                            std::string* activation) {
  if (activation->empty()) *activation = "linear";
  for (const ActivationName& known : kActivations) {
    if (*activation == known.name) return known.function;
  }
  return FieldError(c, "activation",
                    absl::StrCat("must be one of ",
                                 absl::StrJoin(kActivations, ", ",
                                               [](std::string* out, const ActivationName& a) {
                                                 absl::StrAppend(out, a.name);
                                               }),
                                 "; got \"", *activation, "\""));
}

absl::StatusOr<Pair> ParsePair(const BuildContext& c, absl::string_view field,
                               google::protobuf::RepeatedField<int64_t>* values, Pair fallback,
                               int64_t largest) {
  if (values->empty()) {
    values->Add(fallback.height);
    values->Add(fallback.width);
  }
  if (values->size() == 1) values->Add(values->Get(0));
  if (values->size() != 2) {
    return FieldError(c, field, absl::StrCat("must have one or two numbers, got ", values->size()));
  }
  for (int64_t value : *values) {
    if (value < 1) return FieldError(c, field, absl::StrCat("must be >= 1, got ", value));
    if (value > largest) {
      return FieldError(c, field, absl::StrCat("must be <= ", largest, ", got ", value));
    }
  }
  return Pair{values->Get(0), values->Get(1)};
}

absl::Status CheckRegularizer(const BuildContext& c, absl::string_view field,
                              const v1::Regularizer& regularizer) {
  for (const auto& [name, value] :
       {std::pair("l1", regularizer.l1()), std::pair("l2", regularizer.l2())}) {
    if (!(value >= 0) || !std::isfinite(value)) {
      return FieldError(c, absl::StrCat(field, ".", name),
                        absl::StrCat("must be >= 0 and finite, got ", value));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep
