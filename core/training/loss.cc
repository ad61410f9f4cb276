#include "core/training/loss.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

// Keras' mean over the outputs: one ascending chain sum = add(d, sum) of d = y - target, divided at
// the end. The gradient is slope(d, scale / outputs).
template <typename Add, typename Slope>
void MeanOverOutputs(int64_t rows, int64_t columns, const float* y, const float* target,
                     float scale, float* losses, float* gradient, Add add, Slope slope) {
  const float divisor = static_cast<float>(columns);
  const float share = scale / divisor;
  for (int64_t r = 0; r < rows; ++r) {
    float sum = 0.0f;
    for (int64_t i = r * columns; i < (r + 1) * columns; ++i) {
      const float d = y[i] - target[i];
      sum = add(d, sum);
      if (gradient != nullptr) gradient[i] = slope(d, share);
    }
    losses[r] = sum / divisor;
  }
}

// +-magnitude, by the sign of d; 0 where d is.
float WithSign(float d, float magnitude) {
  return d > 0.0f ? magnitude : d < 0.0f ? 0.0f - magnitude : d;
}

}  // namespace

int64_t Targets::Class(int64_t r, int64_t columns) const {
  if (labels != nullptr) return labels[r];
  const float* row = values + r * columns;
  if (columns == 1) return row[0] > 0.5f ? 1 : 0;
  return std::max_element(row, row + columns) - row;
}

Loss::Loss(const v1::Loss& spec)
    : kind_(spec.kind_case()),
      class_weights_(spec.class_weights().begin(), spec.class_weights().end()) {
  switch (kind_) {
    case v1::Loss::kSparseCategoricalCrossentropy:
      from_logits_ = spec.sparse_categorical_crossentropy().from_logits();
      break;
    case v1::Loss::kCategoricalCrossentropy:
      from_logits_ = spec.categorical_crossentropy().from_logits();
      label_smoothing_ = spec.categorical_crossentropy().label_smoothing();
      break;
    case v1::Loss::kBinaryCrossentropy:
      from_logits_ = spec.binary_crossentropy().from_logits();
      label_smoothing_ = spec.binary_crossentropy().label_smoothing();
      break;
    case v1::Loss::kHuber:
      delta_ = static_cast<float>(spec.huber().delta());
      break;
    default:
      break;
  }
}

kernels::Activation Loss::activation() const {
  switch (kind_) {
    case v1::Loss::kSparseCategoricalCrossentropy:
    case v1::Loss::kCategoricalCrossentropy:
      return kernels::Activation::kSoftmax;
    case v1::Loss::kBinaryCrossentropy:
      return kernels::Activation::kSigmoid;
    default:
      return kernels::Activation::kLinear;
  }
}

void Loss::Compute(const kernels::KernelTable& kernels, int64_t rows, int64_t columns,
                   const float* y, const Targets& targets, float scale, float* losses,
                   float* gradient) const {
  ComputeUnweighted(kernels, rows, columns, y, targets, scale, losses, gradient);
  if (targets.weights == nullptr && class_weights_.empty()) return;
  for (int64_t r = 0; r < rows; ++r) {
    float weight = targets.weights == nullptr ? 1.0f : targets.weights[r];
    if (!class_weights_.empty()) weight *= class_weights_[targets.Class(r, columns)];
    losses[r] *= weight;
    if (gradient == nullptr) continue;
    for (int64_t i = r * columns; i < (r + 1) * columns; ++i) gradient[i] *= weight;
  }
}

void Loss::ComputeUnweighted(const kernels::KernelTable& kernels, int64_t rows, int64_t columns,
                             const float* y, const Targets& targets, float scale, float* losses,
                             float* gradient) const {
  const auto smoothing = [&](int64_t classes) {
    return kernels::Smoothing{
        .keep = static_cast<float>(1 - label_smoothing_),
        .add = static_cast<float>(label_smoothing_ / static_cast<double>(classes))};
  };
  const auto mean = [&](auto add, auto slope) {
    MeanOverOutputs(rows, columns, y, targets.values, scale, losses, gradient, add, slope);
  };
  switch (kind_) {
    case v1::Loss::kSparseCategoricalCrossentropy:
      return kernels.cross_entropy(rows, columns, y, targets.labels, scale, losses, gradient);
    case v1::Loss::kCategoricalCrossentropy:
      return kernels.soft_cross_entropy(rows, columns, y, targets.values, smoothing(columns), scale,
                                        losses, gradient);
    case v1::Loss::kBinaryCrossentropy:
      return kernels.binary_cross_entropy(rows, columns, y, targets.values, smoothing(2), scale,
                                          losses, gradient);
    case v1::Loss::kMeanAbsoluteError:
      return mean([](float d, float sum) { return sum + std::abs(d); }, WithSign);
    case v1::Loss::kHuber: {
      const float delta = delta_;
      const auto add = [=](float d, float sum) {
        const float a = std::abs(d);
        return sum + (a <= delta ? 0.5f * d * d : delta * (a - 0.5f * delta));
      };
      const auto slope = [=](float d, float share) {
        return std::abs(d) <= delta ? d * share : WithSign(d, delta * share);
      };
      return mean(add, slope);
    }
    default:  // mean squared error
      return mean([](float d, float sum) { return std::fma(d, d, sum); },
                  [](float d, float share) { return d * (2.0f * share); });
  }
}

}  // namespace lockstep
