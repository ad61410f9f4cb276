#ifndef LOCKSTEP_CLIENT_CLI_JOB_OPTIONS_H_
#define LOCKSTEP_CLIENT_CLI_JOB_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// What the command line can say about a job in place of a file. Empty: nothing.
struct JobOptions {
  std::string keras;  // a file with a Keras model's JSON
  std::string data;   // a registered data set, or a file to register
  std::string loss;   // a field of v1::Loss, "mse" or "mae"
  std::string optimizer;
  std::optional<double> learning_rate;
  std::optional<int64_t> epochs, batch_size;
  std::optional<double> validation_split;
  std::optional<uint64_t> seed;
  std::string publish_as;
};

// `data` is a file that has to be registered first; under this name.
bool IsDataFile(const std::string& data);
std::string DatasetNameOf(const std::string& file);

// Puts the options into the spec, where they count more than what it has. `keras_json` is the
// file's content, or empty. What a Keras model needs to be trained and nobody has said is chosen: a
// loss by what its outputs end in (softmax: sparse_categorical_crossentropy with accuracy, sigmoid:
// binary_crossentropy, else mean_squared_error), 32 samples a batch, 10 epochs.
// INVALID_ARGUMENT if the model cannot be read.
absl::Status ApplyJobOptions(const JobOptions& options, const std::string& keras_json,
                             v1::JobSpec& spec);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_JOB_OPTIONS_H_
