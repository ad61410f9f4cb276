#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <span>
#include <utility>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/inference_batches.h"
#include "client/cli/json_object.h"
#include "client/cli/progress_line.h"
#include "client/cli/terminal.h"

namespace lockstep {
namespace {

// As Keras: keeps the logarithm of a probability of 0 finite.
constexpr double kLeastProbability = 1e-7;

// Sums over the samples so far.
struct Score {
  int64_t samples = 0;
  int64_t correct = 0;  // classes only
  double loss_sum = 0;  // cross-entropy, or squared error averaged over the outputs

  double loss() const { return loss_sum / samples; }
  double accuracy() const { return static_cast<double>(correct) / samples; }
};

void AddClass(std::span<const double> probabilities, double target, Score* score) {
  const int64_t label = std::llround(target);
  const bool known = label >= 0 && label < std::ssize(probabilities);
  const double probability = known ? probabilities[label] : 0;
  score->loss_sum -= std::log(std::max(probability, kLeastProbability));
  const auto predicted = std::max_element(probabilities.begin(), probabilities.end());
  score->correct += predicted - probabilities.begin() == label;
}

void AddValues(std::span<const double> values, std::span<const double> targets, Score* score) {
  double squares = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    squares += (values[i] - targets[i]) * (values[i] - targets[i]);
  }
  score->loss_sum += squares / values.size();
}

absl::Status Add(const InferenceBatches::Batch& batch, Task task, Score* score) {
  const int64_t targets = std::ssize(batch.targets) / batch.samples;
  if (task == Task::kValues && targets != batch.outputs) {
    return absl::InvalidArgumentError(fmt::format(
        "tensor y has {} numbers a sample, but the model answers with {}", targets, batch.outputs));
  }
  for (int64_t i = 0; i < batch.samples; ++i) {
    const auto values = std::span(batch.values).subspan(i * batch.outputs, batch.outputs);
    if (task == Task::kValues) {
      AddValues(values, std::span(batch.targets).subspan(i * targets, targets), score);
    } else {
      AddClass(values, batch.targets[i], score);
    }
  }
  score->samples += batch.samples;
  return absl::OkStatus();
}

void Draw(const Score& score, int64_t samples, double elapsed_s, Terminal& terminal) {
  ProgressLine line;
  line.label = "evaluating";
  line.elapsed_s = elapsed_s;
  line.fraction = static_cast<double>(score.samples) / samples;
  line.count = fmt::format("{}/{}", score.samples, samples);
  line.remaining_s = elapsed_s / score.samples * (samples - score.samples);
  line.rate = FormatRate(score.samples / elapsed_s, "sample");
  terminal.Draw(Render(line, terminal.style()));
}

absl::StatusOr<Score> Measure(InferenceBatches& batches, bool quiet) {
  Score score;
  Terminal terminal;
  const absl::Time start = absl::Now();
  while (score.samples < batches.samples()) {
    absl::StatusOr<InferenceBatches::Batch> batch = batches.Next(batches.samples() - score.samples);
    if (!batch.ok()) return batch.status();
    if (absl::Status added = Add(*batch, batches.task(), &score); !added.ok()) return added;
    if (terminal.interactive() && !quiet) {
      Draw(score, batches.samples(), absl::ToDoubleSeconds(absl::Now() - start), terminal);
    }
  }
  return score;
}

}  // namespace

ExitCode Evaluate(Session& session, const std::string& model, const std::string& dataset,
                  const std::string& output) {
  const std::string what = "evaluate " + model;
  absl::StatusOr<ModelName> name = ParseModelName(model);
  if (!name.ok()) return session.Misused("evaluate", name.status());
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<InferenceBatches> batches =
      InferenceBatches::Open(*client, *name, output, dataset);
  if (!batches.ok()) return session.Fail(what, batches.status(), InferenceAdvice(batches.status()));
  if (!batches->labelled()) {
    return session.Fail(
        what,
        absl::FailedPreconditionError(fmt::format("data set {} has no tensor {} to compare with",
                                                  dataset, output.empty() ? "y" : output)),
        "`lockstep predict` needs none");
  }
  absl::StatusOr<Score> score = Measure(*batches, /*quiet=*/session.json());
  if (!score.ok()) return session.Fail(what, score.status(), InferenceAdvice(score.status()));

  const v1::ModelVersion& version = batches->model();
  const bool classes = batches->task() != Task::kValues;
  if (session.json()) {
    JsonObject object;
    object.Text("model", version.name()).Integer("version", version.version());
    object.Text("dataset", dataset).Integer("samples", score->samples);
    std::vector<std::pair<std::string, double>> metrics = {{"loss", score->loss()}};
    if (classes) {
      object.Integer("correct", score->correct);
      metrics.emplace_back("accuracy", score->accuracy());
    }
    object.Metrics(metrics).Print();
    return kOk;
  }
  std::string line = fmt::format("{}:{} on {}: ", version.name(), version.version(), dataset);
  line += classes ? fmt::format("accuracy {:.4f} ({}/{}), loss {}", score->accuracy(),
                                score->correct, score->samples, FormatMetric(score->loss()))
                  : fmt::format("mean squared error {} over {} samples",
                                FormatMetric(score->loss()), score->samples);
  std::printf("%s\n", line.c_str());
  return kOk;
}

}  // namespace lockstep
