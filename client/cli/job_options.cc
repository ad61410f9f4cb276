#include "client/cli/job_options.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/keras/keras_model.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/util/message_differencer.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

// The activation that a layer ends in; empty if it has none.
std::string ActivationOf(const v1::Layer& layer) {
  const FieldDescriptor* kind = layer.GetReflection()->GetOneofFieldDescriptor(
      layer, layer.GetDescriptor()->FindOneofByName("kind"));
  const Message& message = layer.GetReflection()->GetMessage(layer, kind);
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName("activation");
  return field == nullptr ? "" : message.GetReflection()->GetString(message, field);
}

// What each output of the model ends in.
std::vector<std::string> OutputActivations(const v1::ModelSpec& model) {
  if (model.outputs().empty()) {
    return {model.layers().empty() ? "" : ActivationOf(*model.layers().rbegin())};
  }
  std::vector<std::string> activations;
  for (const std::string& output : model.outputs()) {
    const auto layer = std::find_if(model.layers().begin(), model.layers().end(),
                                    [&](const v1::Layer& l) { return l.name() == output; });
    activations.push_back(layer == model.layers().end() ? "" : ActivationOf(*layer));
  }
  return activations;
}

std::string LossFor(const std::string& activation) {
  if (activation == "softmax") return "sparse_categorical_crossentropy";
  if (activation == "sigmoid") return "binary_crossentropy";
  return "mean_squared_error";
}

// The message of a oneof's kind with this name.
Message& SetKind(Message& message, const std::string& name) {
  return *message.GetReflection()->MutableMessage(&message,
                                                  message.GetDescriptor()->FindFieldByName(name));
}

// A loss an output; on logits where the output is no probability.
void AddLosses(const std::string& loss, const v1::ModelSpec& model, v1::TrainingSpec& training) {
  for (const std::string& activation : OutputActivations(model)) {
    Message& kind = SetKind(*training.add_losses(), loss.empty()    ? LossFor(activation)
                                                    : loss == "mse" ? "mean_squared_error"
                                                    : loss == "mae" ? "mean_absolute_error"
                                                                    : loss);
    const FieldDescriptor* from_logits = kind.GetDescriptor()->FindFieldByName("from_logits");
    if (from_logits != nullptr && activation != "softmax" && activation != "sigmoid") {
      kind.GetReflection()->SetBool(&kind, from_logits, true);
    }
  }
  const bool classes = std::any_of(
      training.losses().begin(), training.losses().end(),
      [](const v1::Loss& added) { return added.has_sparse_categorical_crossentropy(); });
  if (classes && training.metrics().empty()) training.add_metrics("accuracy");
}

void SetOptimizer(const JobOptions& options, v1::Optimizer& optimizer) {
  if (!options.optimizer.empty()) SetKind(optimizer, options.optimizer);
  if (!options.learning_rate.has_value()) return;
  if (optimizer.kind_case() == v1::Optimizer::KIND_NOT_SET) optimizer.mutable_adam();
  const FieldDescriptor* kind = optimizer.GetReflection()->GetOneofFieldDescriptor(
      optimizer, optimizer.GetDescriptor()->FindOneofByName("kind"));
  Message& message = *optimizer.GetReflection()->MutableMessage(&optimizer, kind);
  message.GetReflection()->SetDouble(
      &message, message.GetDescriptor()->FindFieldByName("learning_rate"), *options.learning_rate);
}

}  // namespace

bool IsDataFile(const std::string& data) {
  return absl::EndsWith(data, ".npz") || absl::EndsWith(data, ".csv");
}

std::string DatasetNameOf(const std::string& file) {
  std::string name = std::filesystem::path(file).stem().string();
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_') c = '-';
  }
  return name;
}

absl::Status ApplyJobOptions(const JobOptions& options, const std::string& keras_json,
                             v1::JobSpec& spec) {
  if (options.keras.empty() && !options.loss.empty()) {
    return absl::InvalidArgumentError("--loss needs --keras; a job file has training.losses");
  }
  v1::TrainingSpec training = spec.training();
  if (!options.keras.empty()) {
    spec.set_keras_model(keras_json);
    if (training.batch_size() == 0) training.set_batch_size(32);
    if (training.epochs() == 0) training.set_epochs(10);
  }
  if (!options.loss.empty()) training.clear_losses();
  // A file that says no loss is the server's to judge.
  if (training.losses().empty() && !options.keras.empty()) {
    absl::StatusOr<v1::ModelSpec> model = ModelFromKeras(keras_json);
    if (!model.ok()) return model.status();
    AddLosses(options.loss, *model, training);
  }
  if (!options.data.empty()) {
    spec.mutable_data()->mutable_train()->set_dataset(
        IsDataFile(options.data) ? DatasetNameOf(options.data) : options.data);
  }
  if (options.validation_split)
    spec.mutable_data()->set_validation_split(*options.validation_split);
  if (options.epochs) training.set_epochs(*options.epochs);
  if (options.batch_size) training.set_batch_size(*options.batch_size);
  if (options.seed) training.set_seed(*options.seed);
  if (!options.publish_as.empty()) spec.set_publish_as(options.publish_as);
  if (!options.optimizer.empty() || options.learning_rate) {
    SetOptimizer(options, *training.mutable_optimizer());
  }
  // Another task than training is left alone.
  if (!spec.has_population_statistics()) {
    *spec.mutable_training() = std::move(training);
    return absl::OkStatus();
  }
  if (MessageDifferencer::Equals(training, spec.training())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "the job is about population_statistics, which options about training do not change");
}

}  // namespace lockstep
