#ifndef LOCKSTEP_TESTS_CORE_LAYERS_LAYER_RUN_H_
#define LOCKSTEP_TESTS_CORE_LAYERS_LAYER_RUN_H_

#include <gtest/gtest.h>

#include <algorithm>
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

// One layer with its weights, run alone: what the tests of kernels and layers compare. Where a
// layer has several inputs, x and dx hold them one behind the other, each for all samples.
struct LayerRun {
  using Floats = std::vector<float>;

  // Of one forward and backward pass.
  struct Result {
    Floats y, dx, infer;
    std::vector<Floats> gradients;  // by parameter
    std::vector<Floats> buffers;    // after the step
  };

  // `others`: shapes of the inputs but the first; a layer that merges has two equal ones by
  // default.
  LayerRun(const std::string& layer_json, Shape input, std::vector<Shape> others = {})
      : shape(std::move(input)) {
    auto status = google::protobuf::util::JsonStringToMessage(layer_json, &spec);
    EXPECT_TRUE(status.ok()) << status.ToString() << layer_json;
    for (const LayerKind& kind : LayerKinds()) {
      if (kind.kind != spec.kind_case()) continue;
      if (kind.merges && others.empty()) others.push_back(shape);
      inputs.push_back(shape);
      inputs.insert(inputs.end(), others.begin(), others.end());
      auto built = kind.build({"layer", "layer", 3, inputs}, &spec);
      EXPECT_TRUE(built.ok()) << built.status();
      if (built.ok()) layer = *std::move(built);
    }
  }

  // Floats of a sample, all inputs together.
  int64_t input_size() const {
    int64_t size = 0;
    for (const Shape& input : inputs) size += input.size();
    return size;
  }

  // Sample n of `samples` as a batch of its own.
  Floats SampleOf(const Floats& x, int64_t samples, int64_t n) const {
    Floats sample;
    auto begin = x.begin();
    for (const Shape& input : inputs) {
      sample.insert(sample.end(), begin + n * input.size(), begin + (n + 1) * input.size());
      begin += samples * input.size();
    }
    return sample;
  }

  // Shards of a batch begin at `shards`, whose last entry is the number of samples. Makes the calls
  // of a training step (see Layer) on tiles of at most `tile_samples`.
  Result Run(const kernels::KernelTable* kernels, int threads, const std::vector<int64_t>& shards,
             const Floats& x, const Floats& dy, const std::vector<Floats>& parameters,
             const std::vector<Floats>& buffers, int64_t tile_samples = 3) const {
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

    const int64_t out = layer->output_shape().size();
    Result result;
    result.y.resize(batch.samples * out);
    result.infer = result.y;
    result.dx.resize(x.size());
    result.buffers = buffers;
    if (layer->traits().is_view) {
      result.y = result.infer = x;
      result.dx = dy;
      return result;
    }
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

    const auto tile_pointers = [&](auto* all, const Tile& tile) {
      std::vector<decltype(all)> pointers;
      for (const Shape& input : inputs) {
        pointers.push_back(all + tile.begin * input.size());
        all += batch.samples * input.size();
      }
      return pointers;
    };
    const Tile whole = {0, batch.samples, 0};
    AlignedBuffer<std::byte> saved(layer->saved_bytes(capacity));
    const int64_t scratch_bytes = (layer->scratch_bytes(tile_samples) + 63) / 64 * 64;
    AlignedBuffer<std::byte> scratch(threads * scratch_bytes);

    AlignedBuffer<std::byte> infer_scratch(layer->infer_scratch_bytes(batch.samples));
    AlignedBuffer<std::byte> infer_packed(layer->packed_bytes(Pass::kInference));
    Pack({kernels, Pass::kInference, parameter, old_buffer, infer_packed.data()});
    const std::vector<const float*> infer_inputs = tile_pointers(x.data(), whole);
    layer->Infer({kernels, batch.samples, infer_inputs, result.infer.data(), parameter,
                  infer_packed.data(), infer_scratch.data(), false, relu});

    {
      AlignedBuffer<std::byte> packed(layer->packed_bytes(Pass::kForward));
      AlignedBuffer<std::byte> block_sums(layer->forward_sums_bytes(capacity));
      Pack({kernels, Pass::kForward, parameter, old_buffer, packed.data()});
      const auto call = [&](auto method, const Tile& tile, int thread) {
        const std::vector<const float*> tile_inputs = tile_pointers(x.data(), tile);
        ((*layer).*method)({{step, tile, parameter, packed.data(), saved.data(), block_sums.data(),
                             scratch.data() + thread * scratch_bytes, false},
                            tile_inputs,
                            result.y.data() + tile.begin * out,
                            relu,
                            buffer});
      };
      ForTiles(pool, shards, tile_samples,
               [&](const Tile& tile, int thread) { call(&Layer::GatherForward, tile, thread); });
      call(&Layer::CombineForward, whole, 0);
      ForTiles(pool, shards, tile_samples,
               [&](const Tile& tile, int thread) { call(&Layer::Forward, tile, thread); });
    }

    Floats upstream = dy;
    AlignedBuffer<std::byte> packed(layer->packed_bytes(Pass::kBackward));
    AlignedBuffer<std::byte> partial(layer->backward_sums_bytes(capacity));
    Pack({kernels, Pass::kBackward, parameter, old_buffer, packed.data()});
    const auto call = [&](auto method, const Tile& tile, int thread) {
      const std::vector<const float*> tile_inputs = tile_pointers(x.data(), tile);
      const std::vector<float*> dx = tile_pointers(result.dx.data(), tile);
      ((*layer).*method)({{step, tile, parameter, packed.data(), saved.data(), partial.data(),
                           scratch.data() + thread * scratch_bytes, false},
                          tile_inputs[0],
                          result.y.data() + tile.begin * out,
                          upstream.data() + tile.begin * out,
                          dx,
                          false,
                          gradient,
                          0,
                          sum,
                          0,
                          tile_inputs,
                          /*trainable=*/true,
                          relu && layer->traits().reverts_relu});
    };
    ForTiles(pool, shards, tile_samples,
             [&](const Tile& tile, int thread) { call(&Layer::GatherBackward, tile, thread); });
    call(&Layer::CombineBackward, whole, 0);
    ForTiles(pool, shards, tile_samples,
             [&](const Tile& tile, int thread) { call(&Layer::Backward, tile, thread); });
    call(&Layer::FinishBackward, whole, 0);
    const std::vector<TensorSpec> specs = layer->parameters();
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].gradient != GradientKind::kSum) continue;
      result.gradients[i].assign(sums[i].begin(), sums[i].end());
    }
    return result;
  }

 private:
  void Pack(const PackContext& context) const {
    if (layer->packed_bytes(context.pass) > 0) layer->Pack(context);
  }

  // The tiles of every shard, on the pool: those of one chunk on one thread, in order.
  template <typename Body>
  void ForTiles(ThreadPool& pool, const std::vector<int64_t>& shards, int64_t tile_samples,
                Body body) const {
    std::vector<Tile> ranges;
    const int64_t unit = std::max<int64_t>(1, layer->chunk_samples());
    for (size_t v = 0; v + 1 < shards.size(); ++v) {
      for (int64_t n = shards[v]; n < shards[v + 1]; n += unit) {
        ranges.push_back({n, std::min(unit, shards[v + 1] - n), static_cast<int>(v)});
      }
    }
    pool.ParallelFor(std::ssize(ranges), [&](int64_t i, int thread) {
      const Tile& range = ranges[i];
      for (int64_t n = 0; n < range.samples; n += tile_samples) {
        body(Tile{range.begin + n, std::min(tile_samples, range.samples - n), range.shard}, thread);
      }
    });
  }

 public:
  bool relu = false;  // applied and, where traits() says so, reverted by the layer
  v1::Layer spec;
  Shape shape;                // of the first input
  std::vector<Shape> inputs;  // of all
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
