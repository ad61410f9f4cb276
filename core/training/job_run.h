#ifndef LOCKSTEP_CORE_TRAINING_JOB_RUN_H_
#define LOCKSTEP_CORE_TRAINING_JOB_RUN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/data/tensor.h"
#include "core/parallel/thread_pool.h"
#include "core/training/checkpoint.h"
#include "core/training/job_plan.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// Each input [n, ...], labels [n] or targets [n, ...] of each output, and perhaps weights [n], as
// the job's data sets hold them. Without y there is nothing to compare with.
struct LabelledData {
  std::vector<TensorView> x;
  std::vector<TensorView> y;
  std::optional<TensorView> sample_weight = std::nullopt;
};

// A job's task under way, step by step, whatever the task is. Not thread-safe: one thread calls it;
// it spreads each step over its pool.
class JobRun {
 public:
  virtual ~JobRun() = default;

  virtual bool done() const = 0;
  // Steps done.
  virtual int64_t step() const = 0;
  // The next step. FAILED_PRECONDITION when the numbers are no longer finite; the job cannot go on
  // after that.
  virtual absl::Status Step() = 0;
  // What there is to log since the last call, without sequence and time.
  virtual std::vector<v1::Event> TakeEvents() = 0;
  // BLAKE2s-256 of the state (core/README.md, rule 14), in hexadecimal.
  virtual std::string StateHash() const = 0;
  // Parameters and buffers as they are now, as a safetensors file.
  virtual std::string SerializeWeights() const = 0;
  // A copy of all that the rest of the run depends on, to be called between steps. Events that have
  // not been taken are not in it.
  virtual RunSnapshot Save() const = 0;
  // Goes on from where the snapshot was taken: everything after it is the same bits. Only on a run
  // that has not begun; its pool may have another number of threads. INVALID_ARGUMENT says what of
  // the snapshot does not fit the job; the run is of no use after that.
  virtual absl::Status Restore(const RunSnapshot& snapshot) = 0;
};

// Begins what the plan's spec asks for. The data must outlive the run; `initial_weights`, the
// safetensors file that the spec names, 4-byte aligned, is only read here. INVALID_ARGUMENT says
// which value of the data (its sample's number) or which of the weights do not fit.
absl::StatusOr<std::unique_ptr<JobRun>> StartJob(const JobPlan& plan, const LabelledData& train,
                                                 const std::optional<LabelledData>& validation,
                                                 ThreadPool* pool,
                                                 std::string_view initial_weights);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_JOB_RUN_H_
