#ifndef LOCKSTEP_CORE_LAYERS_BUILD_H_
#define LOCKSTEP_CORE_LAYERS_BUILD_H_

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/layers/layer.h"
#include "google/protobuf/repeated_field.h"
#include "lockstep/v1/model.pb.h"

// What the builders of layers share: every one checks its part of the spec, fills in the defaults,
// and reports the field's path.
namespace lockstep {

// The largest tensor and the largest sample of an activation, in elements.
inline constexpr int64_t kMaxElements = int64_t{1} << 28;

struct BuildContext {
  std::string path;  // "model.layers[3].conv2d"
  std::string name;  // of the layer
  int index;         // in the model; keys the layer's randomness
  std::vector<Shape> inputs;
  // What enters is an input of the network, perhaps rescaled: no weights change it.
  bool reads_input = true;

  const Shape& input() const { return inputs[0]; }
};

// INVALID_ARGUMENT "<path>.<field>: <problem>".
absl::Status FieldError(const BuildContext& c, absl::string_view field, absl::string_view problem);

// INVALID_ARGUMENT unless the input is an image, [N, H, W, channels].
absl::Status CheckImage(const BuildContext& c);
// INVALID_ARGUMENT unless the input is a sequence, [N, L, channels].
absl::Status CheckSequence(const BuildContext& c);
// INVALID_ARGUMENT unless all inputs have one shape.
absl::Status CheckOneShape(const BuildContext& c);

// Empty becomes "linear". Arguments have Keras' defaults.
absl::StatusOr<kernels::ActivationFunction> ParseActivation(const BuildContext& c,
                                                            std::string* activation);

// One number means a square, none the default; both must be within [1, largest].
struct Pair {
  int64_t height;
  int64_t width;
};
absl::StatusOr<Pair> ParsePair(const BuildContext& c, absl::string_view field,
                               google::protobuf::RepeatedField<int64_t>* values, Pair fallback,
                               int64_t largest);

// Of a layer that draws random numbers; none means the job's.
template <typename Spec>
std::optional<uint64_t> SeedOf(const Spec& spec) {
  return spec.has_seed() ? std::optional<uint64_t>(spec.seed()) : std::nullopt;
}

// Sets the default and checks the values.
absl::Status CheckInitializer(const BuildContext& c, absl::string_view field,
                              const v1::Initializer& fallback, v1::Initializer* initializer);
v1::Initializer ZerosInitializer();
v1::Initializer OnesInitializer();
v1::Initializer GlorotUniformInitializer();

// Its values must be finite and >= 0.
absl::Status CheckRegularizer(const BuildContext& c, absl::string_view field,
                              const v1::Regularizer& regularizer);

// The fields that layers with a kernel share: activation, use_bias, initializers and regularizers.
template <typename Spec>
absl::StatusOr<kernels::ActivationFunction> CheckWeights(const BuildContext& c, Spec* spec) {
  auto activation = ParseActivation(c, spec->mutable_activation());
  if (!activation.ok()) return activation;
  if (!spec->has_use_bias()) spec->set_use_bias(true);
  absl::Status status = CheckInitializer(c, "kernel_initializer", GlorotUniformInitializer(),
                                         spec->mutable_kernel_initializer());
  status.Update(CheckInitializer(c, "bias_initializer", ZerosInitializer(),
                                 spec->mutable_bias_initializer()));
  status.Update(CheckRegularizer(c, "kernel_regularizer", spec->kernel_regularizer()));
  status.Update(CheckRegularizer(c, "bias_regularizer", spec->bias_regularizer()));
  if (!status.ok()) return status;
  return activation;
}

// The fields that layer and group normalization share: epsilon, center, scale and the initializers.
template <typename Spec>
absl::Status CheckNormalization(const BuildContext& c, Spec* spec) {
  if (!spec->has_epsilon()) spec->set_epsilon(1e-3);
  if (!(spec->epsilon() > 0) || !std::isfinite(spec->epsilon())) {
    return FieldError(c, "epsilon", absl::StrCat("must be > 0 and finite, got ", spec->epsilon()));
  }
  if (!spec->has_center()) spec->set_center(true);
  if (!spec->has_scale()) spec->set_scale(true);
  absl::Status status =
      CheckInitializer(c, "beta_initializer", ZerosInitializer(), spec->mutable_beta_initializer());
  status.Update(CheckInitializer(c, "gamma_initializer", OnesInitializer(),
                                 spec->mutable_gamma_initializer()));
  status.Update(CheckRegularizer(c, "beta_regularizer", spec->beta_regularizer()));
  status.Update(CheckRegularizer(c, "gamma_regularizer", spec->gamma_regularizer()));
  return status;
}

using LayerOr = absl::StatusOr<std::unique_ptr<const Layer>>;

// One builder a layer kind; the table in layer_table.cc lists them.
LayerOr BuildDense(const BuildContext& c, v1::Layer* spec);
LayerOr BuildConv2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildBatchNormalization(const BuildContext& c, v1::Layer* spec);
LayerOr BuildMaxPooling2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildFlatten(const BuildContext& c, v1::Layer* spec);
LayerOr BuildActivation(const BuildContext& c, v1::Layer* spec);
LayerOr BuildDropout(const BuildContext& c, v1::Layer* spec);
LayerOr BuildAdd(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGlobalAveragePooling2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildConv1D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildDepthwiseConv2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildSeparableConv2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildMaxPooling1D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildAveragePooling1D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildAveragePooling2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGlobalAveragePooling1D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGlobalMaxPooling1D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGlobalMaxPooling2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildReshape(const BuildContext& c, v1::Layer* spec);
LayerOr BuildPermute(const BuildContext& c, v1::Layer* spec);
LayerOr BuildZeroPadding2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildConcatenate(const BuildContext& c, v1::Layer* spec);
LayerOr BuildMultiply(const BuildContext& c, v1::Layer* spec);
LayerOr BuildSpatialDropout2D(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGaussianNoise(const BuildContext& c, v1::Layer* spec);
LayerOr BuildRescaling(const BuildContext& c, v1::Layer* spec);
LayerOr BuildNormalization(const BuildContext& c, v1::Layer* spec);
LayerOr BuildLayerNormalization(const BuildContext& c, v1::Layer* spec);
LayerOr BuildGroupNormalization(const BuildContext& c, v1::Layer* spec);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_BUILD_H_
