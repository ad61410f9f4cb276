#include "core/training/weight_report.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lockstep {

v1::TensorHistogram DescribeTensor(const std::string& name, std::span<const float> values) {
  int64_t count = 0;
  double min = 0;
  double max = 0;
  double sum = 0;
  double sum_of_squares = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const double v = value;
    min = count == 0 ? v : std::min(min, v);
    max = count == 0 ? v : std::max(max, v);
    sum += v;
    sum_of_squares += v * v;  // a float's square is exact
    ++count;
  }
  v1::TensorHistogram histogram;
  histogram.set_name(name);
  histogram.set_count(count);
  histogram.set_not_finite(std::ssize(values) - count);
  histogram.set_min(min);
  histogram.set_max(max);
  histogram.set_sum(sum);
  histogram.set_sum_of_squares(sum_of_squares);
  if (count == 0) return histogram;
  if (min == max) {
    histogram.add_buckets(count);
    return histogram;
  }
  const double width = max - min;
  std::array<int64_t, kHistogramBuckets> buckets{};
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const auto bucket = static_cast<int>((value - min) * kHistogramBuckets / width);
    ++buckets[std::min(bucket, kHistogramBuckets - 1)];
  }
  histogram.mutable_buckets()->Add(buckets.begin(), buckets.end());
  return histogram;
}

v1::WeightReport DescribeWeights(const Network& network, ThreadPool& pool,
                                 std::span<const float> parameters,
                                 std::span<const float> buffers) {
  const std::span<const NetworkTensor> of_parameters = network.parameters();
  const std::span<const NetworkTensor> of_buffers = network.buffers();
  const int64_t tensors =
      std::min(std::ssize(of_parameters) + std::ssize(of_buffers), kMaxReportedTensors);
  v1::WeightReport report;
  for (int64_t t = 0; t < tensors; ++t) report.add_tensors();
  pool.ParallelFor(tensors, [&](int64_t t, int) {
    const bool is_parameter = t < std::ssize(of_parameters);
    const NetworkTensor& tensor =
        is_parameter ? of_parameters[t] : of_buffers[t - std::ssize(of_parameters)];
    const std::span<const float> flat = is_parameter ? parameters : buffers;
    *report.mutable_tensors(static_cast<int>(t)) =
        DescribeTensor(tensor.name, flat.subspan(tensor.offset, tensor.size));
  });
  return report;
}

}  // namespace lockstep
