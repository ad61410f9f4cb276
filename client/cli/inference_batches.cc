#include "client/cli/inference_batches.h"

#include <fmt/format.h>

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

std::string LastActivation(const v1::ModelSpec& spec) {
  for (int i = spec.layers_size() - 1; i >= 0; --i) {
    const v1::Layer& layer = spec.layers(i);
    if (layer.has_dropout() || layer.has_flatten()) continue;
    return layer.has_dense()        ? layer.dense().activation()
           : layer.has_conv2d()     ? layer.conv2d().activation()
           : layer.has_activation() ? layer.activation().activation()
                                    : "";
  }
  return "";
}

Task TaskOf(const v1::ModelSpec& spec, const std::optional<SampleReader>& labels) {
  const bool softmax = LastActivation(spec) == "softmax";
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
  const int64_t sample_bytes = std::max<int64_t>(1, inputs_.sample_size()) * sizeof(float);
  batch.samples = std::clamp<int64_t>(kRequestBytes / sample_bytes, 1, most);
  absl::StatusOr<std::vector<double>> read = inputs_.Next(batch.samples);
  if (!read.ok()) return read.status();
  const std::vector<float> raw(read->begin(), read->end());

  const v1::Input& input = model_.spec().inputs(0);
  std::vector<int64_t> shape = {batch.samples};
  shape.insert(shape.end(), input.shape().begin(), input.shape().end());
  const std::string input_name = input.name().empty() ? "input" : input.name();
  absl::StatusOr<Prediction> prediction;
  absl::Duration pause = absl::Milliseconds(20);
  for (int attempt = 0; attempt < kBusyAttempts; ++attempt) {
    prediction = client_->Infer(model_.name(), model_.version(), input_name, shape, raw);
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

absl::StatusOr<InferenceBatches> InferenceBatches::Open(Client& client, const ModelName& model,
                                                        const std::string& dataset_name) {
  absl::StatusOr<v1::Dataset> dataset = client.GetDataset(dataset_name);
  if (!dataset.ok()) return dataset.status();
  std::optional<SampleReader> inputs, labels;
  for (const v1::Tensor& tensor : dataset->tensors()) {
    if (tensor.name() != "x" && tensor.name() != "y") continue;
    absl::StatusOr<SampleReader> reader = SampleReader::Open(client, tensor);
    if (!reader.ok()) return reader.status();
    (tensor.name() == "x" ? inputs : labels) = *std::move(reader);
  }
  if (!inputs.has_value()) {
    return absl::NotFoundError(fmt::format("data set {} has no tensor x", dataset_name));
  }
  return Match(client, model, *std::move(inputs), std::move(labels));
}

absl::StatusOr<InferenceBatches> InferenceBatches::Open(Client& client, const ModelName& model,
                                                        Tensor samples) {
  return Match(client, model, SampleReader(std::move(samples)), std::nullopt);
}

absl::StatusOr<InferenceBatches> InferenceBatches::Match(Client& client, const ModelName& name,
                                                         SampleReader inputs,
                                                         std::optional<SampleReader> labels) {
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name.name, name.version);
  if (!model.ok()) return model.status();
  const auto& wanted = model->spec().inputs(0).shape();
  const std::vector<int64_t> sample(wanted.begin(), wanted.end());
  if (inputs.sample_size() != ElementCount(sample)) {
    return absl::InvalidArgumentError(fmt::format(
        "model {} takes samples of shape {}, but there are {} of shape {}", model->name(),
        ShapeString(sample), inputs.samples(), ShapeString(std::span(inputs.shape()).subspan(1))));
  }
  return InferenceBatches(client, *std::move(model), std::move(inputs), std::move(labels));
}

InferenceBatches::InferenceBatches(Client& client, v1::ModelVersion model, SampleReader inputs,
                                   std::optional<SampleReader> labels)
    : client_(&client),
      model_(std::move(model)),
      inputs_(std::move(inputs)),
      labels_(std::move(labels)),
      task_(TaskOf(model_.spec(), labels_)) {}

const char* InferenceAdvice(const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return "`lockstep models` and `lockstep datasets list` say what there is";
  }
  return absl::IsResourceExhausted(status) ? "the server is busy; try again later" : "";
}

}  // namespace lockstep
