#ifndef LOCKSTEP_TESTS_CORE_LAYERS_LAYER_RUN_H_
#define LOCKSTEP_TESTS_CORE_LAYERS_LAYER_RUN_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/data/tensor.h"
#include "core/layers/layer_table.h"
#include "core/tensor/aligned_buffer.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep {

// One layer with its weights, run alone: what the tests of kernels and layers compare.
struct LayerRun {
  using Floats = std::vector<float>;

  // Of one forward and backward pass.
  struct Result {
    Floats y, dx, infer;
    std::vector<Floats> gradients;  // by parameter
    std::vector<Floats> buffers;    // after the step
  };

  LayerRun(const std::string& layer_json, Shape input) : shape(std::move(input)) {
    auto status = google::protobuf::util::JsonStringToMessage(layer_json, &spec);
    EXPECT_TRUE(status.ok()) << status.ToString() << layer_json;
    for (const LayerKind& kind : LayerKinds()) {
      if (kind.kind != spec.kind_case()) continue;
      auto built = kind.build({"layer", "layer", 3, shape}, &spec);
      EXPECT_TRUE(built.ok()) << built.status();
      if (built.ok()) layer = *std::move(built);
    }
  }

  // Shards of a batch begin at `shards`, whose last entry is the number of samples.
  Result Run(const kernels::KernelTable* kernels, int threads, const std::vector<int64_t>& shards,
             const Floats& x, const Floats& dy, const std::vector<Floats>& parameters,
             const std::vector<Floats>& buffers) const {
    const int shard_count = static_cast<int>(shards.size()) - 1;
    ThreadPool pool(threads);
    LocalCollective collective(shard_count);
    Batch batch;
    batch.samples = batch.global_samples = shards.back();
    batch.shard_begin = shards;
    batch.nodes.assign(collective.local_nodes().begin(), collective.local_nodes().end());
    const StepContext step = {.kernels = kernels,
                              .pool = &pool,
                              .collective = &collective,
                              .batch = &batch,
                              .seed = 42,
                              .step = 7};
    const Capacity capacity = {shards.back(), shard_count, threads};

    Result result;
    result.y.resize(batch.samples * layer->output_shape().size());
    result.infer = result.y;
    result.dx.resize(x.size());
    result.buffers = buffers;
    std::vector<const float*> parameter;
    std::vector<float*> gradient;
    std::vector<double*> sum;
    std::vector<std::vector<double>> sums;
    for (const Floats& p : parameters) {
      parameter.push_back(p.data());
      result.gradients.emplace_back(p.size());
      sums.emplace_back(p.size());
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      gradient.push_back(result.gradients[i].data());
      sum.push_back(sums[i].data());
    }
    std::vector<float*> buffer;
    std::vector<const float*> old_buffer;
    for (Floats& b : result.buffers) buffer.push_back(b.data());
    for (const Floats& b : buffers) old_buffer.push_back(b.data());

    AlignedBuffer<std::byte> saved(layer->saved_bytes(capacity));
    AlignedBuffer<std::byte> scratch(layer->scratch_bytes(capacity));
    AlignedBuffer<std::byte> infer_scratch(layer->infer_scratch_bytes());
    layer->Infer({kernels, batch.samples, x.data(), result.infer.data(), parameter, old_buffer,
                  infer_scratch.data(), false});
    layer->Forward(
        {step, x.data(), result.y.data(), parameter, buffer, saved.data(), scratch.data(), false});
    Floats upstream = dy;
    layer->Backward({step, x.data(), result.y.data(), upstream.data(), result.dx.data(), parameter,
                     gradient, 0, sum, 0, saved.data(), scratch.data(), false});
    const std::vector<TensorSpec> specs = layer->parameters();
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].gradient != GradientKind::kSum) continue;
      result.gradients[i].assign(sums[i].begin(), sums[i].end());
    }
    return result;
  }

  v1::Layer spec;
  Shape shape;
  std::unique_ptr<const Layer> layer;
};

// Equal bit for bit, except that any NaN equals any NaN (core/README.md, rule 13).
inline ::testing::AssertionResult SameBits(const std::vector<float>& expected,
                                           const std::vector<float>& actual) {
  if (expected.size() != actual.size()) {
    return ::testing::AssertionFailure() << "sizes " << expected.size() << " and " << actual.size();
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    uint32_t a, b;
    std::memcpy(&a, &expected[i], 4);
    std::memcpy(&b, &actual[i], 4);
    if (a == b || (expected[i] != expected[i] && actual[i] != actual[i])) continue;
    return ::testing::AssertionFailure()
           << "element " << i << " of " << expected.size() << ": expected " << expected[i]
           << ", got " << actual[i] << ", " << static_cast<int64_t>(b) - static_cast<int64_t>(a)
           << " ulp";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_LAYERS_LAYER_RUN_H_
