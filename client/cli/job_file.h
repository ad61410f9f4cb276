#ifndef LOCKSTEP_CLIENT_CLI_JOB_FILE_H_
#define LOCKSTEP_CLIENT_CLI_JOB_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/json_index.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// A JobSpec in protobuf's JSON, as people keep it in a file.
struct JobFile {
  v1::JobSpec spec;
  JsonIndex index;
};

// INVALID_ARGUMENT with line and field for what is no JSON, no field of a JobSpec or of the wrong
// kind.
absl::StatusOr<JobFile> ParseJobFile(const std::string& json);

// The server's refusal, which begins with a field's path, with that field's line before it when the
// file has it: "line 14: model.layers[3]...: must be >= 1, got 0".
std::string WithLine(const JobFile& file, const absl::Status& refusal);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JOB_FILE_H_
