#include "client/cli/inference_batches.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "absl/time/clock.h"

namespace lockstep {
namespace {

// A request stays below this, whatever the server's limit.
constexpr int64_t kRequestBytes = (1 << 20) - (16 << 10);
constexpr int kBusyAttempts = 20;

// The activation that the layer of an output ends in; dropout and flatten change nothing about it.
std::string LastActivation(const v1::ModelSpec& spec, const std::string& output) {
  int i = spec.layers_size() - 1;
  while (i >= 0 && !output.empty() && spec.layers(i).name() != output) --i;
  for (; i >= 0; --i) {
    const v1::Layer& layer = spec.layers(i);
    if (layer.has_dropout() || layer.has_flatten()) continue;
    return layer.has_dense()        ? layer.dense().activation()
           : layer.has_conv2d()     ? layer.conv2d().activation()
           : layer.has_activation() ? layer.activation().activation()
                                    : "";
  }
  return "";
}

Task TaskOf(const v1::ModelSpec& spec, const std::string& output,
            const std::optional<SampleReader>& labels) {
  const bool softmax = LastActivation(spec, output) == "softmax";
  if (!labels.has_value()) return softmax ? Task::kClasses : Task::kValues;
  if (!labels->is_integer() || labels->sample_size() != 1) return Task::kValues;
  return softmax ? Task::kClasses : Task::kLogits;
}

void Softmax(std::span<double> values) {
  const double most = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& value : values) sum += value = std::exp(value - most);
  for (double& value : values) value /= sum;
}

}  // namespace

absl::StatusOr<InferenceBatches::Batch> InferenceBatches::Next(int64_t most) {
  Batch batch;
  int64_t sample_bytes = 0;
  for (const SampleReader& input : inputs_) sample_bytes += input.sample_size() * sizeof(float);
  batch.samples = std::clamp<int64_t>(kRequestBytes / std::max<int64_t>(1, sample_bytes), 1, most);
  std::vector<InputTensor> tensors;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    absl::StatusOr<std::vector<double>> read = inputs_[i].Next(batch.samples);
    if (!read.ok()) return read.status();
    const v1::Input& input = model_.spec().inputs(i);
    InputTensor& tensor = tensors.emplace_back();
    tensor.name = input.name();
    tensor.shape = {batch.samples};
    tensor.shape.insert(tensor.shape.end(), input.shape().begin(), input.shape().end());
    tensor.values.assign(read->begin(), read->end());
  }
  absl::StatusOr<Prediction> prediction;
  absl::Duration pause = absl::Milliseconds(20);
  for (int attempt = 0; attempt < kBusyAttempts; ++attempt) {
    prediction = client_->Infer(model_.name(), model_.version(), tensors, output_);
    if (!absl::IsResourceExhausted(prediction.status())) break;
    absl::SleepFor(pause);  // the queue is full of other people's requests
    pause = std::min(pause * 2, absl::Seconds(1));
  }
  if (!prediction.ok()) return prediction.status();

  batch.values.assign(prediction->values.begin(), prediction->values.end());
  batch.outputs = batch.values.size() / batch.samples;
  if (batch.outputs == 0 || batch.outputs * batch.samples != std::ssize(batch.values)) {
    return absl::InternalError(
        fmt::format("{} samples were answered with {} values", batch.samples, batch.values.size()));
  }
  if (task_ == Task::kLogits) {
    for (int64_t i = 0; i < batch.samples; ++i) {
      Softmax(std::span(batch.values).subspan(i * batch.outputs, batch.outputs));
    }
  }
  if (labels_.has_value()) {
    absl::StatusOr<std::vector<double>> targets = labels_->Next(batch.samples);
    if (!targets.ok()) return targets.status();
    batch.targets = *std::move(targets);
  }
  return batch;
}

absl::StatusOr<InferenceBatches> InferenceBatches::Open(Client& client, const ModelName& name,
                                                        const std::string& output,
                                                        const std::string& dataset_name) {
  absl::StatusOr<v1::ModelVersion> model = FindModel(client, name, output);
  if (!model.ok()) return model.status();
  absl::StatusOr<v1::Dataset> dataset = client.GetDataset(dataset_name);
  if (!dataset.ok()) return dataset.status();
  const auto open = [&](const std::string& tensor) -> absl::StatusOr<SampleReader> {
    for (const v1::Tensor& t : dataset->tensors()) {
      if (t.name() == tensor) return SampleReader::Open(client, t);
    }
    return absl::NotFoundError(fmt::format("data set {} has no tensor {}", dataset_name, tensor));
  };
  std::vector<SampleReader> inputs;
  const auto& spec = model->spec();
  for (const v1::Input& input : spec.inputs()) {
    auto reader = open(spec.inputs_size() == 1 ? "x" : input.name());
    if (!reader.ok()) return reader.status();
    inputs.push_back(*std::move(reader));
  }
  std::optional<SampleReader> labels;
  auto reader = open(output.empty() ? "y" : output);
  if (reader.ok()) {
    labels = *std::move(reader);
  } else if (!absl::IsNotFound(reader.status())) {
    return reader.status();
  }
  return Match(client, *std::move(model), output, std::move(inputs), std::move(labels));
}

absl::StatusOr<InferenceBatches> InferenceBatches::Open(Client& client, const ModelName& name,
                                                        const std::string& output, Tensor samples) {
  absl::StatusOr<v1::ModelVersion> model = FindModel(client, name, output);
  if (!model.ok()) return model.status();
  if (model->spec().inputs_size() > 1) {
    return absl::InvalidArgumentError(
        fmt::format("model {} takes {} inputs; a data set can hold them, one file cannot",
                    model->name(), model->spec().inputs_size()));
  }
  std::vector<SampleReader> inputs;
  inputs.push_back(SampleReader(std::move(samples)));
  return Match(client, *std::move(model), output, std::move(inputs), std::nullopt);
}

absl::StatusOr<v1::ModelVersion> InferenceBatches::FindModel(Client& client, const ModelName& name,
                                                             const std::string& output) {
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name.name, name.version);
  if (!model.ok()) return model;
  const auto& outputs = model->spec().outputs();
  const bool known = std::find(outputs.begin(), outputs.end(), output) != outputs.end();
  if (outputs.size() > 1 ? !known : !output.empty()) {
    return absl::InvalidArgumentError(
        outputs.size() > 1
            ? fmt::format("model {} has several outputs; --output-name must be one of {}",
                          model->name(), fmt::join(outputs, ", "))
            : fmt::format("model {} has one output; leave --output-name away", model->name()));
  }
  return model;
}

absl::StatusOr<InferenceBatches> InferenceBatches::Match(Client& client, v1::ModelVersion model,
                                                         std::string output,
                                                         std::vector<SampleReader> inputs,
                                                         std::optional<SampleReader> labels) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const v1::Input& input = model.spec().inputs(i);
    const std::vector<int64_t> sample(input.shape().begin(), input.shape().end());
    if (inputs[i].sample_size() == ElementCount(sample)) continue;
    return absl::InvalidArgumentError(
        fmt::format("model {} takes samples of shape {} as \"{}\", but there are {} of shape {}",
                    model.name(), ShapeString(sample), input.name(), inputs[i].samples(),
                    ShapeString(std::span(inputs[i].shape()).subspan(1))));
  }
  return InferenceBatches(client, std::move(model), std::move(output), std::move(inputs),
                          std::move(labels));
}

InferenceBatches::InferenceBatches(Client& client, v1::ModelVersion model, std::string output,
                                   std::vector<SampleReader> inputs,
                                   std::optional<SampleReader> labels)
    : client_(&client),
      model_(std::move(model)),
      output_(std::move(output)),
      inputs_(std::move(inputs)),
      labels_(std::move(labels)),
      task_(TaskOf(model_.spec(), output_, labels_)) {}

const char* InferenceAdvice(const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return "`lockstep models` and `lockstep datasets list` say what there is";
  }
  return absl::IsResourceExhausted(status) ? "the server is busy; try again later" : "";
}

}  // namespace lockstep
