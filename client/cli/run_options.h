#ifndef LOCKSTEP_CLIENT_CLI_RUN_OPTIONS_H_
#define LOCKSTEP_CLIENT_CLI_RUN_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/map.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// What the command line can say about where, when and how safely a job runs; none of it changes a
// bit of the result. Nothing said leaves the job's file as it is.
struct RunOptions {
  std::optional<int> priority;
  std::vector<std::string> labels;  // "KEY=VALUE"; beside those of the file
  std::optional<int> threads;
  std::optional<int64_t> max_seconds, max_memory_mb;  // 1 MB: 10^6 bytes
  bool preempt = false;
  std::optional<int64_t> checkpoint_steps, checkpoint_seconds;
  std::optional<int> keep_checkpoints;
  std::string keep_best;  // a metric
};

// Puts the options into the spec, where they count more than what it has. INVALID_ARGUMENT for a
// label without "=".
absl::Status ApplyRunOptions(const RunOptions& options, v1::JobSpec& spec);

// Adds "KEY=VALUE" to a map, in place of what it has for the key. INVALID_ARGUMENT without key or
// "=".
absl::Status AddLabels(const std::vector<std::string>& labels,
                       google::protobuf::Map<std::string, std::string>& map);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_RUN_OPTIONS_H_
