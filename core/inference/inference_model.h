#ifndef LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_
#define LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// An input or output of a model, as the inference protocol names it: by its name in the spec, or
// "output" if there is one only.
struct ModelTensor {
  std::string name;
  std::vector<int64_t> shape;  // of one sample, without the batch
  int64_t size = 0;            // values of that
};

// Values of a sample's row.
int64_t RowSize(std::span<const ModelTensor> tensors);

// A trained network ready to answer. Immutable, so any number of threads may call it at once.
class InferenceModel {
 public:
  // Memory of one thread's forward passes; grows to what the largest model called with it needs.
  class Arena {
   public:
    Arena();
    ~Arena();

   private:
    friend class NetworkInferenceModel;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  // `safetensors` as Trainer::SerializeWeights wrote it. INVALID_ARGUMENT lists every tensor that
  // is missing, left over or of the wrong shape; FAILED_PRECONDITION on a CPU without AVX2 and FMA.
  static absl::StatusOr<std::unique_ptr<const InferenceModel>> Create(const v1::ModelSpec& spec,
                                                                      std::string_view safetensors);
  virtual ~InferenceModel() = default;

  virtual std::span<const ModelTensor> inputs() const = 0;
  virtual std::span<const ModelTensor> outputs() const = 0;
  // Parameters and buffers, and what of them is packed, in bytes.
  virtual int64_t size_bytes() const = 0;

  // y[i] = network(x[i]) for each of the `samples` rows: a sample's inputs lie one after another,
  // and so do its outputs. Raw values go in: the spec's scale and offset are applied here. The bits
  // of a row do not depend on the others. REQUIRES: x and y hold samples * RowSize(inputs() and
  // outputs()) values.
  virtual void Predict(int64_t samples, std::span<const float> x, std::span<float> y,
                       Arena& arena) const = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_
