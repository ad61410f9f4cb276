#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json_object.h"
#include "client/cli/progress_line.h"
#include "client/cli/tensor_file.h"
#include "client/cli/terminal.h"

namespace lockstep {
namespace {

// A request stays below this, whatever the server's limit.
constexpr int64_t kRequestBytes = (1 << 20) - (16 << 10);
// As Keras: what keeps the logarithm of a probability of 0 finite.
constexpr double kLeastProbability = 1e-7;
constexpr int kBusyAttempts = 20;

// What a model's outputs mean to people.
enum class Task {
  kClasses,  // probabilities of classes
  kLogits,   // the same before the softmax
  kValues,   // numbers: regression
};

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
  if (LastActivation(spec) == "softmax") return Task::kClasses;
  const bool classes = labels.has_value() && labels->is_integer() && labels->sample_size() == 1;
  return classes ? Task::kLogits : Task::kValues;
}

void Softmax(std::span<double> values) {
  const double most = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& value : values) sum += value = std::exp(value - most);
  for (double& value : values) value /= sum;
}

// A model, the samples to ask it about and, when known, their labels; asked batch by batch.
struct Batches {
  v1::ModelVersion model;
  SampleReader inputs;
  std::optional<SampleReader> labels;
  Task task;

  struct Batch {
    int64_t samples = 0;
    int64_t outputs = 0;          // numbers a sample
    std::vector<double> values;   // [samples, outputs]: probabilities, or plain values
    std::vector<double> targets;  // [samples, ...]; empty when unknown
  };
  // The next samples, at most `most` and as many as fit into one request.
  absl::StatusOr<Batch> Next(Client& client, int64_t most);
};

absl::StatusOr<Batches::Batch> Batches::Next(Client& client, int64_t most) {
  Batch batch;
  const int64_t sample_bytes = std::max<int64_t>(1, inputs.sample_size()) * sizeof(float);
  batch.samples = std::clamp<int64_t>(kRequestBytes / sample_bytes, 1, most);
  absl::StatusOr<std::vector<double>> read = inputs.Next(batch.samples);
  if (!read.ok()) return read.status();
  const std::vector<float> raw(read->begin(), read->end());

  const v1::Input& input = model.spec().input();
  std::vector<int64_t> shape = {batch.samples};
  shape.insert(shape.end(), input.shape().begin(), input.shape().end());
  const std::string input_name = input.name().empty() ? "input" : input.name();
  absl::StatusOr<Prediction> prediction;
  absl::Duration pause = absl::Milliseconds(20);
  for (int attempt = 0; attempt < kBusyAttempts; ++attempt) {
    prediction = client.Infer(model.name(), model.version(), input_name, shape, raw);
    if (!absl::IsResourceExhausted(prediction.status())) break;
    absl::SleepFor(pause);  // the queue is full of other people's requests
    pause = std::min(pause * 2, absl::Seconds(1));
  }
  if (!prediction.ok()) return prediction.status();

  batch.values.assign(prediction->values.begin(), prediction->values.end());
  batch.outputs = batch.values.size() / batch.samples;
  if (batch.outputs == 0 || batch.outputs * batch.samples != std::ssize(batch.values)) {
    return absl::InternalError(fmt::format("{} samples were answered with {} values",
                                           batch.samples, batch.values.size()));
  }
  if (task == Task::kLogits) {
    for (int64_t i = 0; i < batch.samples; ++i) {
      Softmax(std::span(batch.values).subspan(i * batch.outputs, batch.outputs));
    }
  }
  if (labels.has_value()) {
    absl::StatusOr<std::vector<double>> targets = labels->Next(batch.samples);
    if (!targets.ok()) return targets.status();
    batch.targets = *std::move(targets);
  }
  return batch;
}

absl::StatusOr<Batches> Open(Client& client, const ModelName& name, const std::string& dataset_name,
                             const std::string& file) {
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name.name, name.version);
  if (!model.ok()) return model.status();
  std::optional<SampleReader> inputs, labels;
  if (!file.empty()) {
    absl::StatusOr<Tensor> tensor = ReadTensorFile(file);
    if (!tensor.ok()) return tensor.status();
    inputs.emplace(*std::move(tensor));
  } else {
    absl::StatusOr<v1::Dataset> dataset = client.GetDataset(dataset_name);
    if (!dataset.ok()) return dataset.status();
    for (const v1::Tensor& tensor : dataset->tensors()) {
      if (tensor.name() != "x" && tensor.name() != "y") continue;
      absl::StatusOr<SampleReader> reader = SampleReader::Open(client, tensor);
      if (!reader.ok()) return reader.status();
      (tensor.name() == "x" ? inputs : labels) = *std::move(reader);
    }
    if (!inputs.has_value()) {
      return absl::NotFoundError(fmt::format("data set {} has no tensor x", dataset_name));
    }
  }
  const auto& wanted = model->spec().input().shape();
  const std::vector<int64_t> sample(wanted.begin(), wanted.end());
  if (inputs->sample_size() != ElementCount(sample)) {
    return absl::InvalidArgumentError(
        fmt::format("model {} takes samples of shape {}, but there are {} of shape {}",
                    model->name(), ShapeString(sample), inputs->samples(),
                    ShapeString(std::span(inputs->shape()).subspan(1))));
  }
  const Task task = TaskOf(model->spec(), labels);
  return Batches{*std::move(model), *std::move(inputs), std::move(labels), task};
}

const char* Advice(const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return "`lockstep models` and `lockstep datasets list` say what there is";
  }
  return absl::IsResourceExhausted(status) ? "the server is busy; try again later" : "";
}

std::string Join(std::span<const double> values) {
  std::string text;
  for (double value : values) text += (text.empty() ? "" : " ") + FormatMetric(value);
  return text;
}

// Rows of what `predict` says, as a table or JSON lines.
class PredictionRows {
 public:
  PredictionRows(Task task, bool labelled, bool json)
      : task_(task), labelled_(labelled), json_(json), table_(Header(task, labelled)) {}

  void Add(int64_t index, std::span<const double> values, std::span<const double> targets) {
    if (task_ == Task::kValues) {
      JsonObject object;
      object.Integer("index", index);
      for (size_t i = 0; i < values.size(); ++i) object.Number(fmt::format("y{}", i), values[i]);
      for (size_t i = 0; i < targets.size(); ++i) {
        object.Number(fmt::format("target{}", i), targets[i]);
      }
      Add(object, {std::to_string(index), Join(values), Join(targets)});
      return;
    }
    const int64_t predicted = std::max_element(values.begin(), values.end()) - values.begin();
    JsonObject object;
    object.Integer("index", index).Integer("predicted", predicted);
    object.Number("probability", values[predicted]);
    std::vector<std::string> row = {std::to_string(index), std::to_string(predicted),
                                    fmt::format("{:.4f}", values[predicted])};
    if (labelled_) {
      const int64_t label = std::llround(targets[0]);
      object.Integer("label", label);
      row.push_back(std::to_string(label));
      row.push_back(label == predicted ? "" : "wrong");
    }
    Add(object, std::move(row));
  }

  void Finish() const {
    if (!json_) std::fputs(table_.ToString().c_str(), stdout);
  }

 private:
  static std::vector<std::string> Header(Task task, bool labelled) {
    std::vector<std::string> header = {"INDEX"};
    if (task == Task::kValues) {
      header.push_back("PREDICTED");
      if (labelled) header.push_back("TARGET");
      return header;
    }
    header.insert(header.end(), {"PREDICTED", "PROBABILITY"});
    if (labelled) header.insert(header.end(), {"LABEL", ""});
    return header;
  }

  void Add(const JsonObject& object, std::vector<std::string> row) {
    if (json_) {
      object.Print();
      return;
    }
    if (task_ == Task::kValues && !labelled_) row.pop_back();
    table_.AddRow(std::move(row));
  }

  const Task task_;
  const bool labelled_;
  const bool json_;
  Table table_;
};

}  // namespace

ExitCode Predict(Session& session, const PredictArguments& arguments) {
  const std::string what = "predict " + arguments.model;
  absl::StatusOr<ModelName> name = ParseModelName(arguments.model);
  if (!name.ok()) return session.Misused("predict", name.status());
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<Batches> batches = Open(*client, *name, arguments.dataset, arguments.input);
  if (!batches.ok()) return session.Fail(what, batches.status(), Advice(batches.status()));

  PredictionRows rows(batches->task, batches->labels.has_value(), session.json());
  const int64_t samples = std::min(arguments.first, batches->inputs.samples());
  for (int64_t done = 0; done < samples;) {
    absl::StatusOr<Batches::Batch> batch = batches->Next(*client, samples - done);
    if (!batch.ok()) return session.Fail(what, batch.status(), Advice(batch.status()));
    const int64_t targets = batch->targets.size() / batch->samples;
    for (int64_t i = 0; i < batch->samples; ++i) {
      rows.Add(done + i, std::span(batch->values).subspan(i * batch->outputs, batch->outputs),
               std::span(batch->targets).subspan(i * targets, targets));
    }
    done += batch->samples;
  }
  rows.Finish();
  return kOk;
}

ExitCode Evaluate(Session& session, const std::string& model, const std::string& dataset) {
  const std::string what = "evaluate " + model;
  absl::StatusOr<ModelName> name = ParseModelName(model);
  if (!name.ok()) return session.Misused("evaluate", name.status());
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<Batches> batches = Open(*client, *name, dataset, /*file=*/"");
  if (!batches.ok()) return session.Fail(what, batches.status(), Advice(batches.status()));
  if (!batches->labels.has_value()) {
    return session.Fail(what,
                        absl::FailedPreconditionError(
                            fmt::format("data set {} has no tensor y to compare with", dataset)),
                        "`lockstep predict` needs none");
  }

  const bool classes = batches->task != Task::kValues;
  const int64_t samples = batches->inputs.samples();
  const absl::Time start = absl::Now();
  Terminal terminal;
  double loss_sum = 0;
  int64_t correct = 0;
  for (int64_t done = 0; done < samples;) {
    absl::StatusOr<Batches::Batch> batch = batches->Next(*client, samples - done);
    if (!batch.ok()) {
      terminal.Clear();
      return session.Fail(what, batch.status(), Advice(batch.status()));
    }
    const int64_t outputs = batch->outputs;
    if (std::ssize(batch->targets) != batch->samples * (classes ? 1 : outputs)) {
      terminal.Clear();
      return session.Fail(what,
                          absl::InvalidArgumentError(fmt::format(
                              "data set {} has {} numbers a sample in y where the model has {}",
                              dataset, std::ssize(batch->targets) / batch->samples, outputs)),
                          "");
    }
    for (int64_t i = 0; i < batch->samples; ++i) {
      const auto row = std::span(batch->values).subspan(i * outputs, outputs);
      if (!classes) {
        double squares = 0;
        for (int64_t j = 0; j < outputs; ++j) {
          const double error = row[j] - batch->targets[i * outputs + j];
          squares += error * error;
        }
        loss_sum += squares / outputs;
        continue;
      }
      const int64_t label = std::llround(batch->targets[i]);
      const bool known = label >= 0 && label < outputs;
      const double probability = known ? row[label] : 0;
      loss_sum -= std::log(std::clamp(probability, kLeastProbability, 1 - kLeastProbability));
      correct += known && std::max_element(row.begin(), row.end()) - row.begin() == label;
    }
    done += batch->samples;
    if (terminal.interactive() && !session.json()) {
      ProgressLine line;
      line.label = "evaluating";
      line.elapsed_s = absl::ToDoubleSeconds(absl::Now() - start);
      line.fraction = static_cast<double>(done) / samples;
      line.count = fmt::format("{}/{}", done, samples);
      line.remaining_s = line.elapsed_s / done * (samples - done);
      line.rate = FormatRate(done / line.elapsed_s, "sample");
      terminal.Draw(Render(line, terminal.style()));
    }
  }
  terminal.Clear();

  const double loss = loss_sum / samples;
  const v1::ModelVersion& version = batches->model;
  if (session.json()) {
    JsonObject object;
    object.Text("model", version.name()).Integer("version", version.version());
    object.Text("dataset", dataset).Integer("samples", samples);
    std::vector<std::pair<std::string, double>> metrics = {{"loss", loss}};
    if (classes) {
      object.Integer("correct", correct);
      metrics.emplace_back("accuracy", static_cast<double>(correct) / samples);
    }
    object.Metrics(metrics).Print();
  } else if (classes) {
    std::printf("%s:%lld on %s: accuracy %.4f (%lld/%lld), loss %s\n", version.name().c_str(),
                static_cast<long long>(version.version()), dataset.c_str(),
                static_cast<double>(correct) / samples, static_cast<long long>(correct),
                static_cast<long long>(samples), FormatMetric(loss).c_str());
  } else {
    std::printf("%s:%lld on %s: mean squared error %s over %lld samples\n",
                version.name().c_str(), static_cast<long long>(version.version()), dataset.c_str(),
                FormatMetric(loss).c_str(), static_cast<long long>(samples));
  }
  return kOk;
}

}  // namespace lockstep
