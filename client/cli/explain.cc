#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/explain_view.h"
#include "client/cli/format.h"
#include "client/cli/job_file.h"
#include "client/cli/progress_line.h"

namespace lockstep {
namespace {

constexpr int kNameColumns = 32;

// "1,234,567"
std::string Grouped(int64_t value) {
  std::string digits = std::to_string(value);
  for (int64_t i = std::ssize(digits) - 3; i > 0; i -= 3) digits.insert(i, ",");
  return digits;
}

// "7.15 M": powers of 1000.
std::string Short(int64_t value) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  double scaled = static_cast<double>(value);
  int unit = 0;
  for (; scaled >= 999.5 && unit < 4; ++unit) scaled /= 1000;
  return unit == 0 ? std::to_string(value)
                   : fmt::format("{:.{}f}{}", scaled,
                                 scaled < 9.995   ? 2
                                 : scaled < 99.95 ? 1
                                                  : 0,
                                 kUnits[unit]);
}

// The end of a name that is too long: that is where names differ.
std::string Name(const std::string& name) {
  return std::ssize(name) <= kNameColumns ? name
                                          : "~" + name.substr(name.size() - kNameColumns + 1);
}

std::string Values(const char* what, int64_t values) {
  return fmt::format("{:<13} {}{}\n", what, Grouped(values),
                     values == 0 ? "" : fmt::format(" ({})", FormatBytes(4 * values)));
}

}  // namespace

std::string ExplainTable(const v1::ValidateJobResponse& job) {
  // What a layer reads is said where it is not the layer before it.
  std::vector<std::string> reads;
  std::string before = job.spec().model().inputs(0).name();
  for (const v1::LayerSummary& layer : job.layers()) {
    const bool next = layer.inputs_size() == 1 && layer.inputs(0) == before;
    reads.push_back(next ? "" : absl::StrJoin(layer.inputs(), ", "));
    before = layer.name();
  }
  const bool chain = std::all_of(reads.begin(), reads.end(), std::mem_fn(&std::string::empty));
  std::vector<std::string> header = {"LAYER", "KIND", "OUTPUT", "PARAMETERS", "FLOPS"};
  if (!chain) header.push_back("READS");
  Table table(std::move(header));
  for (int i = 0; i < job.layers_size(); ++i) {
    const v1::LayerSummary& layer = job.layers(i);
    std::vector<std::string> row = {
        Name(layer.name()), layer.kind(), "[N, " + absl::StrJoin(layer.output_shape(), ", ") + "]",
        Grouped(layer.parameters()) +
            (layer.parameters() > 0 && !layer.trainable() ? " frozen" : ""),
        Short(layer.flops_per_sample())};
    if (!chain) row.push_back(reads[i]);
    table.AddRow(std::move(row));
  }
  std::string text = table.ToString() + "\n";
  text += Values("parameters", job.parameters());
  if (job.trainable_parameters() != job.parameters()) {
    text += Values("  trained", job.trainable_parameters());
  }
  text += Values("buffers", job.buffers());
  text += fmt::format("{:<13} {} forward, a sample\n", "arithmetic",
                      Short(job.flops_per_sample()) + "FLOP");
  text += fmt::format("{:<13} about {} on the worker\n", "memory", FormatBytes(job.memory_bytes()));
  if (job.total_steps() > 0) {
    text += fmt::format("{:<13} {} ({} an epoch)\n", "steps", Grouped(job.total_steps()),
                        Grouped(job.steps_per_epoch()));
  }
  if (job.step_ms() > 0) {
    const double samples = static_cast<double>(job.spec().training().batch_size());
    text +=
        fmt::format("{:<13} about {:.3g} ms a step ({}), {} in all, with {} thread{}\n", "time",
                    job.step_ms(), FormatRate(1e3 * samples / job.step_ms(), "sample"),
                    FormatClock(job.total_seconds()), job.threads(), job.threads() == 1 ? "" : "s");
  } else if (job.total_steps() > 0) {
    text += fmt::format("{:<13} not known: no worker is there to judge by\n", "time");
  }
  return text;
}

ExitCode ExplainJob(Session& session, const std::string& path) {
  absl::StatusOr<std::string> json = ReadFile(path);
  if (!json.ok()) return session.Misused("explain", json.status());
  absl::StatusOr<JobFile> file = ParseJobFile(*json);
  if (!file.ok()) {
    return session.Misused(path, file.status(),
                           "the fields are those of JobSpec in proto/lockstep/v1/job.proto");
  }
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::ValidateJobResponse> job = client->ValidateJob(file->spec);
  if (!job.ok()) {
    return session.Fail(path, absl::Status(job.status().code(), WithLine(*file, job.status())),
                        "correct it and ask again");
  }
  if (session.json()) {
    PrintJson(*job);
  } else {
    std::fputs(ExplainTable(*job).c_str(), stdout);
  }
  return kOk;
}

}  // namespace lockstep
