#ifndef LOCKSTEP_CORE_TRAINING_EVALUATION_H_
#define LOCKSTEP_CORE_TRAINING_EVALUATION_H_

#include <cstdint>
#include <vector>

#include "core/inference/inference_pass.h"
#include "core/tensor/aligned_buffer.h"
#include "core/training/data_feed.h"
#include "core/training/objective.h"

namespace lockstep {

// Losses and metrics over samples of a data set, in inference mode. Per-sample values are placed by
// position and summed in double over blocks of 1024, blocks in order (core/README.md, rule 8), so
// no split over threads can change a bit. As in Keras, weights of classes do not count. Memory is
// planned once; not thread-safe.
class Evaluation {
 public:
  // Of samples [first, first + samples) of the data. The network and the data must outlive it.
  Evaluation(const Network& network, std::vector<Objective> objectives, const DataFeed& data,
             int64_t first, int64_t samples, const ThreadPool& pool);

  // What the constructor and Run allocate for so many samples and threads.
  static int64_t MemoryBytes(const Network& network, std::span<const Objective> objectives,
                             int64_t samples, int threads);

  // "loss" first; see DescribeScores.
  std::vector<v1::Metric> Run(const kernels::KernelTable& kernels, ThreadPool& pool,
                              const float* parameters, const float* buffers);

 private:
  const Network& network_;
  const std::vector<Objective> objectives_;
  const DataFeed& data_;
  const int64_t first_;
  const int64_t samples_;
  InferencePass pass_;
  // What one thread needs for its part of the samples.
  struct Workspace {
    AlignedBuffer<std::byte> memory;
    AlignedBuffer<float> x;
    AlignedBuffer<float> y;
    AlignedBuffer<float> part;          // of y, where there are several outputs
    std::vector<TargetMemory> targets;  // by output
  };
  std::vector<Workspace> workspaces_;
  std::vector<Scores> scores_;  // by output
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_EVALUATION_H_
