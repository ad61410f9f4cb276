#ifndef LOCKSTEP_CORE_TRAINING_INPUT_MOMENTS_H_
#define LOCKSTEP_CORE_TRAINING_INPUT_MOMENTS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/network/network.h"
#include "core/parallel/thread_pool.h"
#include "core/training/data_feed.h"
#include "lockstep/v1/model.pb.h"

// Exact statistics of what enters a layer, over a data set (core/README.md, rules 21 and 22). The
// bits do not depend on the pool's threads.
namespace lockstep {

// By channel, over `count` values each.
struct Moments {
  double count = 0;
  std::vector<double> mean, m2;
};

// Of what layer `layer` of the spec reads, in inference with these weights, over the feed's samples
// [0, samples). The channels lie along the layer's axis.
absl::StatusOr<Moments> InputMoments(const Network& network, const v1::ModelSpec& model, int layer,
                                     const float* parameters, const float* buffers,
                                     const DataFeed& feed, int64_t samples, ThreadPool& pool);
// Estimate of what it allocates, for any layer.
int64_t InputMomentsBytes(const Network& network, int64_t samples, int threads);

// Sets the layer's first two buffers to mean and m2 / divisor. FAILED_PRECONDITION, with the
// layer's name and path, where they are not finite.
absl::Status SetStatistics(const Moments& moments, double divisor, const Network& network,
                           int layer, std::span<float> buffers);

// A Normalization without mean and variance of its own: it takes those of the training set.
bool TakesStatistics(const v1::Layer& layer);
// Gives every such layer its mean and population variance over the feed's samples [0, samples).
absl::Status AdaptNormalizations(const Network& network, const v1::ModelSpec& model,
                                 const float* parameters, std::span<float> buffers,
                                 const DataFeed& feed, int64_t samples, ThreadPool& pool);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_INPUT_MOMENTS_H_
