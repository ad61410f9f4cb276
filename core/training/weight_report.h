#ifndef LOCKSTEP_CORE_TRAINING_WEIGHT_REPORT_H_
#define LOCKSTEP_CORE_TRAINING_WEIGHT_REPORT_H_

#include <cstdint>
#include <span>
#include <string>

#include "core/network/network.h"
#include "core/parallel/thread_pool.h"
#include "lockstep/v1/event.pb.h"

// How the weights lie after an epoch (core/README.md, rule 24).
namespace lockstep {

constexpr int kHistogramBuckets = 30;

// The most tensors of a report: an event has room for 1 MiB, and a tensor with the longest name
// needs less than 400 bytes.
constexpr int64_t kMaxReportedTensors = 2000;

v1::TensorHistogram DescribeTensor(const std::string& name, std::span<const float> values);

// Of the parameters, then of the buffers, which are flat as the network has them. Epoch and step
// are left to the caller. A function of the values alone, whatever the number of threads.
v1::WeightReport DescribeWeights(const Network& network, ThreadPool& pool,
                                 std::span<const float> parameters, std::span<const float> buffers);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_WEIGHT_REPORT_H_
