#ifndef LOCKSTEP_CORE_TRAINING_CHECKPOINT_H_
#define LOCKSTEP_CORE_TRAINING_CHECKPOINT_H_

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/checkpoint.pb.h"

namespace lockstep {

// A run between two steps, by value: all that the rest of it depends on. The vectors' names are
// those of checkpoint.proto.
struct RunSnapshot {
  v1::RunState state;
  std::map<std::string, std::vector<float>> vectors;

  // BLAKE2s-256 of the state (core/README.md, rule 14), in hexadecimal.
  std::string StateHash() const;

  // A copy of the values, under this name.
  void Add(std::string name, std::span<const float> values);
  // The vector of this name. INVALID_ARGUMENT when there is none or it is not as long as `values`.
  absl::Status CopyTo(const std::string& name, std::span<float> values) const;
};

// The name of the optimizer's vector number `slot`, from 0.
std::string SlotName(size_t slot);

// The checkpoint file; see checkpoint.proto. Its metadata has one more entry, "header_hash":
// SHA-256 of the others and of the vectors' names and sizes, which the state hash does not cover.
// `previous_sha256` is that of the checkpoint before it.
std::string WriteCheckpoint(const JobPlan& plan, const RunSnapshot& snapshot,
                            const std::string& previous_sha256);

// `bytes` must start 4-byte aligned. INVALID_ARGUMENT says what is wrong: no checkpoint or a torn
// one, of another contract, of another job (the fingerprints differ), a state hash that is not what
// the vectors have. Whether the vectors fit the job's network is for JobRun::Restore to say.
absl::StatusOr<RunSnapshot> ReadCheckpoint(const JobPlan& plan, std::string_view bytes);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_CHECKPOINT_H_
