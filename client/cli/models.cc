#include <fmt/format.h>

#include <cstdio>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/progress_line.h"

namespace lockstep {

ExitCode ListModels(Session& session) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<std::vector<v1::ModelVersion>> models = client->ListModels();
  if (!models.ok()) return session.Fail("models", models.status(), "");
  if (session.json()) {
    for (const v1::ModelVersion& model : *models) PrintJson(model);
    return kOk;
  }
  if (models->empty()) {
    std::printf("no models yet; a job publishes one when its spec has publish_as\n");
    return kOk;
  }
  Table table({"MODEL", "VERSION", "SIZE", "METRICS", "JOB", "STATE HASH", "PUBLISHED"});
  for (const v1::ModelVersion& model : *models) {
    std::string metrics;
    for (const v1::Metric& metric : model.metrics()) {
      metrics += fmt::format("{}{}={}", metrics.empty() ? "" : " ", metric.name(),
                             FormatMetric(metric.value()));
    }
    table.AddRow({model.name(), std::to_string(model.version()),
                  FormatBytes(model.weights().size_bytes()), metrics, model.receipt().job_id(),
                  ShortHash(model.receipt().state_hash()),
                  FormatAge(model.create_time(), absl::Now())});
  }
  std::fputs(table.ToString().c_str(), stdout);
  return kOk;
}

}  // namespace lockstep
