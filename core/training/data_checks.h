#ifndef LOCKSTEP_CORE_TRAINING_DATA_CHECKS_H_
#define LOCKSTEP_CORE_TRAINING_DATA_CHECKS_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/network/network.h"
#include "core/training/objective.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Samples that a job trains on, and that it validates with (0: none).
struct SampleCounts {
  int64_t train;
  int64_t validation;
};

// The inputs of a source named by `path` ("data.train"): their names, shapes and number of samples,
// which is returned. Fills in default names; INVALID_ARGUMENT with the field's path.
absl::StatusOr<int64_t> CheckInputs(const std::string& path, const v1::Dataset& dataset,
                                    const Network& network, v1::DataSource* source);

// What the network and its objectives ask of the data sets' names, types and shapes; `validation`
// is null when there is none. Fills in defaults; INVALID_ARGUMENT with the field's path.
absl::StatusOr<SampleCounts> CheckData(const Network& network,
                                       std::span<const Objective> objectives,
                                       const v1::Dataset& train, const v1::Dataset* validation,
                                       v1::DataSpec* data);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_DATA_CHECKS_H_
