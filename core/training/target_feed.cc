#include "core/training/target_feed.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/data/elements.h"

namespace lockstep {
namespace {

absl::StatusOr<std::vector<int32_t>> ReadLabels(absl::string_view path, const TensorView& y,
                                                int64_t classes) {
  std::vector<int32_t> labels;
  labels.reserve(ElementCount(y.shape));
  absl::Status status;
  ForElements(y.dtype, y.bytes, [&](auto element) {
    if (!(element >= 0 && static_cast<double>(element) < static_cast<double>(classes))) {
      status = absl::InvalidArgumentError(absl::StrCat(
          path, ": label of sample ", labels.size(), " is ", static_cast<int64_t>(element),
          "; the model has classes 0 to ", classes - 1));
      return false;
    }
    labels.push_back(static_cast<int32_t>(element));
    return true;
  });
  if (!status.ok()) return status;
  return labels;
}

// Targets of losses on probabilities are probabilities.
absl::StatusOr<std::vector<float>> ReadValues(absl::string_view path, const TensorView& y,
                                              const Objective& objective) {
  const bool probabilities = objective.loss.activation() != kernels::Activation::kLinear;
  std::vector<float> values;
  values.reserve(ElementCount(y.shape));
  absl::Status status;
  ForElements(y.dtype, y.bytes, [&](auto element) {
    const auto value = static_cast<float>(element);
    if (probabilities && !(value >= 0 && value <= 1)) {
      const int64_t i = std::ssize(values);
      status = absl::InvalidArgumentError(absl::StrCat(path, ": value ", i % objective.columns,
                                                       " of sample ", i / objective.columns, " is ",
                                                       value, "; must be within [0, 1]"));
    }
    values.push_back(value);
    return status.ok();
  });
  if (!status.ok()) return status;
  return values;
}

}  // namespace

// INVALID_ARGUMENT for the first value that is not a finite float.
absl::Status CheckFinite(absl::string_view path, const TensorView& tensor) {
  if (tensor.dtype != DType::kFloat32 && tensor.dtype != DType::kFloat64) return absl::OkStatus();
  const int64_t count = ElementCount(tensor.shape);
  const int64_t size = count / std::max<int64_t>(1, tensor.shape[0]);
  absl::Status status;
  int64_t i = 0;
  ForElements(tensor.dtype, tensor.bytes, [&](auto element) {
    if (!std::isfinite(static_cast<float>(element))) {
      status = absl::InvalidArgumentError(
          absl::StrCat(path, ": value ", i % size, " of sample ", i / size, " is ",
                       static_cast<double>(element), "; must be a finite 32-bit float"));
    }
    ++i;
    return status.ok();
  });
  return status;
}

absl::StatusOr<TargetFeed> TargetFeed::Create(absl::string_view path, const TensorView& y,
                                              const Objective& objective) {
  if (auto s = CheckFinite(path, y); !s.ok()) return s;
  TargetFeed feed;
  if (objective.loss.has_labels()) {
    auto labels = ReadLabels(path, y, objective.columns);
    if (!labels.ok()) return labels.status();
    feed.labels_ = *std::move(labels);
  } else {
    auto values = ReadValues(path, y, objective);
    if (!values.ok()) return values.status();
    feed.value_size_ = objective.columns;
    feed.values_ = *std::move(values);
  }
  return feed;
}

TargetMemory TargetFeed::MakeMemory(int64_t samples) const {
  TargetMemory memory;
  if (value_size_ == 0) {
    memory.labels.resize(samples);
  } else {
    memory.values.resize(samples * value_size_);
  }
  return memory;
}

Targets TargetFeed::Gather(std::span<const int32_t> samples, TargetMemory& memory) const {
  if (value_size_ == 0) {
    std::transform(samples.begin(), samples.end(), memory.labels.begin(),
                   [&](int32_t s) { return labels_[s]; });
    return {.labels = memory.labels.data()};
  }
  auto values = memory.values.begin();
  for (int32_t sample : samples) {
    values = std::copy_n(values_.begin() + sample * value_size_, value_size_, values);
  }
  return {.values = memory.values.data()};
}

}  // namespace lockstep
