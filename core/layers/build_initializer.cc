#include <cmath>

#include "core/layers/build.h"

namespace lockstep {
namespace {

// Where a message about an initializer points to.
struct Field {
  const BuildContext& c;
  std::string path;  // "kernel_initializer.random_normal"

  absl::Status Error(absl::string_view field, absl::string_view problem) const {
    return FieldError(c, absl::StrCat(path, ".", field), problem);
  }
  absl::Status CheckFinite(absl::string_view field, float value) const {
    if (std::isfinite(value)) return absl::OkStatus();
    return Error(field, absl::StrCat("must be finite, got ", value));
  }
};

absl::Status Check(const Field& field, v1::RandomUniform* spec) {
  if (!spec->has_minval()) spec->set_minval(-0.05f);
  if (!spec->has_maxval()) spec->set_maxval(0.05f);
  if (std::isfinite(spec->minval()) && std::isfinite(spec->maxval()) &&
      spec->minval() <= spec->maxval()) {
    return absl::OkStatus();
  }
  return FieldError(
      field.c, field.path,
      absl::StrCat("needs finite minval <= maxval, got ", spec->minval(), " and ", spec->maxval()));
}

// RandomNormal or TruncatedNormal.
template <typename Spec>
absl::Status CheckNormal(const Field& field, Spec* spec) {
  if (!spec->has_stddev()) spec->set_stddev(0.05f);
  if (!(spec->stddev() >= 0) || !std::isfinite(spec->stddev())) {
    return field.Error("stddev", absl::StrCat("must be >= 0 and finite, got ", spec->stddev()));
  }
  return field.CheckFinite("mean", spec->mean());
}

absl::Status Check(const Field& field, v1::VarianceScaling* spec) {
  if (!spec->has_scale()) spec->set_scale(1.0f);
  if (!(spec->scale() > 0) || !std::isfinite(spec->scale())) {
    return field.Error("scale", absl::StrCat("must be > 0 and finite, got ", spec->scale()));
  }
  if (spec->mode().empty()) spec->set_mode("fan_in");
  if (spec->mode() != "fan_in" && spec->mode() != "fan_out" && spec->mode() != "fan_avg") {
    return field.Error(
        "mode", absl::StrCat("must be fan_in, fan_out or fan_avg; got \"", spec->mode(), "\""));
  }
  if (spec->distribution().empty()) spec->set_distribution("truncated_normal");
  if (spec->distribution() != "truncated_normal" && spec->distribution() != "untruncated_normal" &&
      spec->distribution() != "uniform") {
    return field.Error("distribution",
                       absl::StrCat("must be truncated_normal, untruncated_normal or uniform; "
                                    "got \"",
                                    spec->distribution(), "\""));
  }
  return absl::OkStatus();
}

// Orthogonal or Identity.
template <typename Spec>
absl::Status CheckGain(const Field& field, Spec* spec) {
  if (!spec->has_gain()) spec->set_gain(1.0f);
  return field.CheckFinite("gain", spec->gain());
}

}  // namespace

absl::Status CheckInitializer(const BuildContext& c, absl::string_view field,
                              const v1::Initializer& fallback, v1::Initializer* initializer) {
  // A seed may stand alone.
  if (initializer->kind_case() == v1::Initializer::KIND_NOT_SET) initializer->MergeFrom(fallback);
  const auto at = [&](absl::string_view kind) { return Field{c, absl::StrCat(field, ".", kind)}; };
  switch (initializer->kind_case()) {
    case v1::Initializer::kConstant:
      return at("constant").CheckFinite("value", initializer->constant().value());
    case v1::Initializer::kRandomUniform:
      return Check(at("random_uniform"), initializer->mutable_random_uniform());
    case v1::Initializer::kRandomNormal:
      return CheckNormal(at("random_normal"), initializer->mutable_random_normal());
    case v1::Initializer::kTruncatedNormal:
      return CheckNormal(at("truncated_normal"), initializer->mutable_truncated_normal());
    case v1::Initializer::kVarianceScaling:
      return Check(at("variance_scaling"), initializer->mutable_variance_scaling());
    case v1::Initializer::kOrthogonal:
      return CheckGain(at("orthogonal"), initializer->mutable_orthogonal());
    case v1::Initializer::kIdentity:
      return CheckGain(at("identity"), initializer->mutable_identity());
    default:
      return absl::OkStatus();
  }
}

v1::Initializer ZerosInitializer() {
  v1::Initializer initializer;
  initializer.mutable_zeros();
  return initializer;
}

v1::Initializer OnesInitializer() {
  v1::Initializer initializer;
  initializer.mutable_ones();
  return initializer;
}

v1::Initializer GlorotUniformInitializer() {
  v1::Initializer initializer;
  initializer.mutable_glorot_uniform();
  return initializer;
}

}  // namespace lockstep
