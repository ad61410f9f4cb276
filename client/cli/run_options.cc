#include "client/cli/run_options.h"

#include <fmt/format.h>

namespace lockstep {
namespace {

constexpr int64_t kBytesPerMb = 1'000'000;

}  // namespace

absl::Status AddLabels(const std::vector<std::string>& labels,
                       google::protobuf::Map<std::string, std::string>& map) {
  for (const std::string& label : labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(fmt::format("--label: '{}' is no KEY=VALUE", label));
    }
    map[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return absl::OkStatus();
}

absl::Status ApplyRunOptions(const RunOptions& options, v1::JobSpec& spec) {
  if (absl::Status s = AddLabels(options.labels, *spec.mutable_labels()); !s.ok()) return s;
  if (options.priority) spec.set_priority(*options.priority);
  if (options.threads) spec.mutable_resources()->set_threads(*options.threads);
  if (options.max_seconds) spec.mutable_resources()->set_max_seconds(*options.max_seconds);
  if (options.max_memory_mb) {
    spec.mutable_resources()->set_max_memory_bytes(*options.max_memory_mb * kBytesPerMb);
  }
  if (options.preempt) spec.mutable_resources()->set_preempt(true);
  if (options.checkpoint_steps) {
    spec.mutable_checkpoints()->set_every_steps(*options.checkpoint_steps);
  }
  if (options.checkpoint_seconds) {
    spec.mutable_checkpoints()->set_every_seconds(*options.checkpoint_seconds);
  }
  if (options.keep_checkpoints) {
    spec.mutable_checkpoints()->set_keep_last(*options.keep_checkpoints);
  }
  if (!options.keep_best.empty()) spec.mutable_checkpoints()->set_keep_best(options.keep_best);
  return absl::OkStatus();
}

}  // namespace lockstep
