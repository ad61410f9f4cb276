#ifndef LOCKSTEP_CORE_TRAINING_EVALUATION_H_
#define LOCKSTEP_CORE_TRAINING_EVALUATION_H_

#include <cstdint>
#include <vector>

#include "core/inference/inference_pass.h"
#include "core/tensor/aligned_buffer.h"
#include "core/training/data_feed.h"

namespace lockstep {

// Loss and accuracy over a whole data set, in inference mode. Per-sample values are placed by the
// sample's position and summed in double over blocks of 1024, blocks in order (core/README.md, rule
// 8), so no split over threads can change a bit. Memory is planned once; not thread-safe.
class Evaluation {
 public:
  struct Result {
    double loss = 0;
    double accuracy = 0;  // meaningful for class labels only
  };

  // The network and the data must outlive it.
  Evaluation(const Network& network, const DataFeed& data, const Loss& loss,
             const ThreadPool& pool);

  // What the constructor allocates for so many samples and threads.
  static int64_t MemoryBytes(const Network& network, const Loss& loss, int64_t samples,
                             int threads);

  Result Run(const kernels::KernelTable& kernels, ThreadPool& pool, const float* parameters,
             const float* buffers);

 private:
  const Network& network_;
  const DataFeed& data_;
  const Loss loss_;
  InferencePass pass_;
  // What one thread needs for its part of the samples.
  struct Workspace {
    AlignedBuffer<std::byte> memory;
    AlignedBuffer<float> x;
    AlignedBuffer<float> y;
    std::vector<int32_t> labels;
    AlignedBuffer<float> values;
  };
  std::vector<Workspace> workspaces_;
  std::vector<float> losses_;
  std::vector<float> correct_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_EVALUATION_H_
