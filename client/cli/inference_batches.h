#ifndef LOCKSTEP_CLIENT_CLI_INFERENCE_BATCHES_H_
#define LOCKSTEP_CLIENT_CLI_INFERENCE_BATCHES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/session.h"
#include "client/cli/tensor_file.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {

// What a model's outputs mean to people.
enum class Task {
  kClasses,  // probabilities of classes
  kLogits,   // the same before the softmax
  kValues,   // numbers: regression
};

// A model, samples to ask it about and, when there are any, their labels; asked batch by batch from
// the first sample on.
class InferenceBatches {
 public:
  // Samples from a registered data set (tensors x and y; of a model with several inputs or outputs
  // those with their names), or given ones. `output` must be named if there are several.
  // INVALID_ARGUMENT when something does not fit the model.
  static absl::StatusOr<InferenceBatches> Open(Client& client, const ModelName& model,
                                               const std::string& output,
                                               const std::string& dataset);
  static absl::StatusOr<InferenceBatches> Open(Client& client, const ModelName& model,
                                               const std::string& output, Tensor samples);

  struct Batch {
    int64_t samples = 0;
    int64_t outputs = 0;          // numbers a sample
    std::vector<double> values;   // [samples, outputs]: probabilities, or plain numbers
    std::vector<double> targets;  // [samples, ...]; empty without labels
  };
  // The next samples, at most `most` and as many as fit into one request of 1 MiB. Waits a while
  // for a server that is busy; RESOURCE_EXHAUSTED after that.
  absl::StatusOr<Batch> Next(int64_t most);

  const v1::ModelVersion& model() const { return model_; }
  int64_t samples() const { return inputs_[0].samples(); }
  bool labelled() const { return labels_.has_value(); }
  Task task() const { return task_; }

 private:
  InferenceBatches(Client& client, v1::ModelVersion model, std::string output,
                   std::vector<SampleReader> inputs, std::optional<SampleReader> labels);
  // Looks the model up and checks that it has such an output.
  static absl::StatusOr<v1::ModelVersion> FindModel(Client& client, const ModelName& name,
                                                    const std::string& output);
  // Checks that it takes such inputs.
  static absl::StatusOr<InferenceBatches> Match(Client& client, v1::ModelVersion model,
                                                std::string output,
                                                std::vector<SampleReader> inputs,
                                                std::optional<SampleReader> labels);

  Client* client_;
  v1::ModelVersion model_;
  std::string output_;  // empty: the only one
  std::vector<SampleReader> inputs_;
  std::optional<SampleReader> labels_;
  Task task_;
};

// What to do about an error of Open() or Next().
const char* InferenceAdvice(const absl::Status& status);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_INFERENCE_BATCHES_H_
