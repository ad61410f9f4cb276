#include "core/training/data_checks.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/data/tensor.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxSamples = (int64_t{1} << 31) - 1;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::vector<int64_t> SampleShape(const v1::Tensor& tensor) {
  return {tensor.shape().begin() + 1, tensor.shape().end()};
}

// The tensor that `field` ("data.train.x") names, if it has samples.
absl::StatusOr<const v1::Tensor*> FindTensor(const std::string& field, const v1::Dataset& dataset,
                                             const std::string& name) {
  std::string names;
  for (const v1::Tensor& tensor : dataset.tensors()) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", tensor.name());
    if (tensor.name() != name) continue;
    if (tensor.shape().empty() || tensor.shape(0) < 1) {
      return Invalid(field, ": \"", name, "\" has no samples");
    }
    if (tensor.shape(0) > kMaxSamples) {
      return Invalid(field, ": \"", name, "\" has ", tensor.shape(0), " samples; at most ",
                     kMaxSamples);
    }
    return &tensor;
  }
  return Invalid(field, ": data set \"", dataset.name(), "\" has no tensor \"", name, "\"; it has ",
                 names);
}

// Whether samples of shape `data` can be read as `wanted`: the same dimensions, except that
// dimensions of 1 do not count and a one-dimensional input takes any shape of its size.
bool ShapesFit(std::span<const int64_t> data, std::span<const int64_t> wanted) {
  if (wanted.size() == 1) return ElementCount(data) == wanted[0];
  const auto without_ones = [](std::span<const int64_t> shape) {
    std::vector<int64_t> dims(shape.begin(), shape.end());
    std::erase(dims, 1);
    return dims;
  };
  return without_ones(data) == without_ones(wanted);
}

// "data.train.x", or of several "data.train.x[1]".
std::string Field(const std::string& path, const char* name, int number, int count) {
  return count == 1 ? absl::StrCat(path, name) : absl::StrCat(path, name, "[", number, "]");
}

absl::Status CheckInput(const std::string& field, int number, const v1::Tensor& x,
                        const NetworkInput& input) {
  const std::vector<int64_t> shape = SampleShape(x);
  if (ShapesFit(shape, input.shape.dims())) return absl::OkStatus();
  return Invalid(field, ": samples of \"", x.name(), "\" have shape ", ShapeString(shape),
                 ", but model.inputs[", number, "].shape is ", ShapeString(input.shape.dims()));
}

// Another tensor of a source, whose first one has so many samples.
absl::StatusOr<const v1::Tensor*> FindBeside(const std::string& path, const v1::DataSource& source,
                                             int64_t samples, const std::string& field,
                                             const v1::Dataset& dataset, const std::string& name) {
  const auto tensor = FindTensor(field, dataset, name);
  if (!tensor.ok() || (*tensor)->shape(0) == samples) return tensor;
  return Invalid(path, ": \"", source.x(0), "\" has ", samples, " samples, but \"", name, "\" has ",
                 (*tensor)->shape(0));
}

absl::Status CheckLabels(const std::string& field, const v1::Tensor& y, int64_t classes) {
  const std::optional<DType> dtype = ParseDType(y.dtype());
  if (!dtype || *dtype == DType::kFloat32 || *dtype == DType::kFloat64) {
    return Invalid(field, ": labels must be integers, but \"", y.name(), "\" is ", y.dtype());
  }
  const std::vector<int64_t> shape = SampleShape(y);
  if (ElementCount(shape) != 1) {
    return Invalid(field, ": must hold one label a sample, but samples of \"", y.name(),
                   "\" have shape ", ShapeString(shape));
  }
  if (y.min_value() < 0 || y.max_value() >= static_cast<double>(classes)) {
    return Invalid(field, ": labels of \"", y.name(), "\" go from ", y.min_value(), " to ",
                   y.max_value(), ", but the model has classes 0 to ", classes - 1);
  }
  return absl::OkStatus();
}

absl::Status CheckTargets(const std::string& field, const v1::Tensor& y, const Objective& objective,
                          const Shape& output) {
  if (objective.loss.has_labels()) return CheckLabels(field, y, objective.columns);
  const std::vector<int64_t> shape = SampleShape(y);
  if (!ShapesFit(shape, output.dims())) {
    return Invalid(field, ": samples of \"", y.name(), "\" have shape ", ShapeString(shape),
                   ", but the model's output is ", ShapeString(output.dims()));
  }
  const bool probabilities = objective.loss.activation() != kernels::Activation::kLinear;
  if (probabilities && (y.min_value() < 0 || y.max_value() > 1)) {
    return Invalid(field, ": targets of \"", y.name(), "\" go from ", y.min_value(), " to ",
                   y.max_value(), ", but this loss wants them within [0, 1]");
  }
  return absl::OkStatus();
}

absl::Status CheckSampleWeight(const std::string& field, const v1::Tensor& weight) {
  const std::vector<int64_t> shape = SampleShape(weight);
  if (ElementCount(shape) != 1) {
    return Invalid(field, ": must hold one weight a sample, but samples of \"", weight.name(),
                   "\" have shape ", ShapeString(shape));
  }
  if (weight.min_value() < 0) {
    return Invalid(field, ": weights must be >= 0, but \"", weight.name(), "\" goes down to ",
                   weight.min_value());
  }
  return absl::OkStatus();
}

// Returns the number of samples.
absl::StatusOr<int64_t> CheckSource(const std::string& path, const v1::Dataset& dataset,
                                    const Network& network, std::span<const Objective> objectives,
                                    v1::DataSource* source) {
  const auto samples = CheckInputs(path, dataset, network, source);
  if (!samples.ok()) return samples;
  const auto outputs = static_cast<int>(objectives.size());
  for (int o = 0; source->y_size() == o && o < outputs; ++o) {
    source->add_y(outputs == 1 ? "y" : network.outputs()[o].name);
  }
  if (source->y_size() != outputs) {
    return Invalid(path, ".y: must name a tensor for each of the model's outputs, ", outputs,
                   ", got ", source->y_size());
  }
  for (int o = 0; o < outputs; ++o) {
    const std::string field = Field(path, ".y", o, outputs);
    const auto y = FindBeside(path, *source, *samples, field, dataset, source->y(o));
    if (!y.ok()) return y.status();
    if (auto s = CheckTargets(field, **y, objectives[o], network.outputs()[o].shape); !s.ok()) {
      return s;
    }
  }
  if (!source->sample_weight().empty()) {
    const std::string field = path + ".sample_weight";
    const auto weight =
        FindBeside(path, *source, *samples, field, dataset, source->sample_weight());
    if (!weight.ok()) return weight.status();
    if (auto s = CheckSampleWeight(field, **weight); !s.ok()) return s;
  }
  return samples;
}

// As Keras: the first floor(samples * (1 - split)) are trained on.
absl::StatusOr<SampleCounts> Split(int64_t samples, double split) {
  if (!(split >= 0 && split < 1)) {
    return Invalid("data.validation_split: must be within [0, 1), got ", split);
  }
  if (split == 0) return SampleCounts{samples, 0};
  const auto train = static_cast<int64_t>(std::floor(static_cast<double>(samples) * (1 - split)));
  if (train < 1 || train >= samples) {
    return Invalid("data.validation_split: ", split, " of ", samples, " samples leaves none to ",
                   train < 1 ? "train on" : "validate with");
  }
  return SampleCounts{train, samples - train};
}

}  // namespace

absl::StatusOr<int64_t> CheckInputs(const std::string& path, const v1::Dataset& dataset,
                                    const Network& network, v1::DataSource* source) {
  const auto inputs = static_cast<int>(network.inputs().size());
  for (int i = 0; source->x_size() == i && i < inputs; ++i) {
    source->add_x(inputs == 1 ? "x" : network.inputs()[i].name);
  }
  if (source->x_size() != inputs) {
    return Invalid(path, ".x: must name a tensor for each of the model's inputs, ", inputs,
                   ", got ", source->x_size());
  }
  int64_t samples = 0;
  for (int i = 0; i < inputs; ++i) {
    const std::string field = Field(path, ".x", i, inputs);
    const auto x = i == 0 ? FindTensor(field, dataset, source->x(0))
                          : FindBeside(path, *source, samples, field, dataset, source->x(i));
    if (!x.ok()) return x.status();
    samples = (*x)->shape(0);
    if (auto s = CheckInput(field, i, **x, network.inputs()[i]); !s.ok()) return s;
  }
  return samples;
}

absl::StatusOr<SampleCounts> CheckData(const Network& network,
                                       std::span<const Objective> objectives,
                                       const v1::Dataset& train, const v1::Dataset* validation,
                                       v1::DataSpec* data) {
  const auto samples = CheckSource("data.train", train, network, objectives, data->mutable_train());
  if (!samples.ok()) return samples.status();
  auto counts = Split(*samples, data->validation_split());
  if (!counts.ok() || validation == nullptr) return counts;
  if (counts->validation > 0) {
    return Invalid("data.validation_split: must be 0 when data.validation is there, got ",
                   data->validation_split());
  }
  const auto held_out =
      CheckSource("data.validation", *validation, network, objectives, data->mutable_validation());
  if (!held_out.ok()) return held_out.status();
  counts->validation = *held_out;
  return counts;
}

}  // namespace lockstep
