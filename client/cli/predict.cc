#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <utility>

#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/inference_batches.h"
#include "client/cli/json_object.h"
#include "client/cli/progress_line.h"

namespace lockstep {
namespace {

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
  absl::StatusOr<Tensor> local;
  if (!arguments.input.empty()) {
    local = ReadTensorFile(arguments.input);
    if (!local.ok()) return session.Misused(what, local.status());
  }
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<InferenceBatches> batches =
      local.ok() ? InferenceBatches::Open(*client, *name, arguments.output, *std::move(local))
                 : InferenceBatches::Open(*client, *name, arguments.output, arguments.dataset);
  if (!batches.ok()) return session.Fail(what, batches.status(), InferenceAdvice(batches.status()));

  PredictionRows rows(batches->task(), batches->labelled(), session.json());
  const int64_t samples = std::min(arguments.first, batches->samples());
  for (int64_t done = 0; done < samples;) {
    absl::StatusOr<InferenceBatches::Batch> batch = batches->Next(samples - done);
    if (!batch.ok()) return session.Fail(what, batch.status(), InferenceAdvice(batch.status()));
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

}  // namespace lockstep
