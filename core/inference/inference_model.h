#ifndef LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_
#define LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

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

  // Shapes of one sample, without the batch.
  virtual std::span<const int64_t> input_shape() const = 0;
  virtual std::span<const int64_t> output_shape() const = 0;
  // Parameters and buffers, and what of them is packed, in bytes.
  virtual int64_t size_bytes() const = 0;

  // y[i] = network(x[i]) for each of the `samples` rows. Raw values go in: the spec's scale and
  // offset are applied here. The bits of a row do not depend on the others.
  // REQUIRES: x and y hold samples * (size of one) values.
  virtual void Predict(int64_t samples, std::span<const float> x, std::span<float> y,
                       Arena& arena) const = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_INFERENCE_INFERENCE_MODEL_H_
