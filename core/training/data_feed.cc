#include "core/training/data_feed.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/data/elements.h"

namespace lockstep {
namespace {

absl::StatusOr<std::vector<float>> ReadWeights(absl::string_view path, const TensorView& tensor) {
  if (auto s = CheckFinite(absl::StrCat(path, ".sample_weight"), tensor); !s.ok()) return s;
  std::vector<float> weights;
  weights.reserve(ElementCount(tensor.shape));
  absl::Status status;
  ForElements(tensor.dtype, tensor.bytes, [&](auto element) {
    if (element < 0) {
      status = absl::InvalidArgumentError(absl::StrCat(
          path, ".sample_weight: of sample ", weights.size(), " is ", +element, "; must be >= 0"));
    }
    weights.push_back(static_cast<float>(element));
    return status.ok();
  });
  if (!status.ok()) return status;
  return weights;
}

// Shuffled samples lie anywhere in memory: they are fetched while those before them are converted.
// kAhead bytes of small samples are under way at a time; in a large one the hardware goes on from
// where this ends. Always inline: g++ 12 drops calls of a function that does nothing but prefetch.
constexpr int64_t kAhead = 4096;
constexpr int64_t kMostAhead = 16;  // samples

[[gnu::always_inline]] inline void Prefetch(std::span<const std::byte> bytes) {
  constexpr size_t kLine = 64;
  constexpr size_t kMost = 16384;  // a part of the L1 cache
  for (size_t i = 0; i < std::min(bytes.size(), kMost); i += kLine) {
    __builtin_prefetch(bytes.data() + i);
  }
}

}  // namespace

absl::StatusOr<DataFeed> DataFeed::Create(absl::string_view path, const LabelledData& data,
                                          const Network& network,
                                          std::span<const Objective> objectives) {
  DataFeed feed;
  feed.samples_ = data.x[0].shape[0];
  for (size_t i = 0; i < data.x.size(); ++i) {
    const std::string field = data.x.size() == 1 ? ".x" : absl::StrCat(".x[", i, "]");
    if (auto s = CheckFinite(absl::StrCat(path, field), data.x[i]); !s.ok()) return s;
    const NetworkInput& input = network.inputs()[i];
    feed.inputs_.push_back({data.x[i], input.shape.size(), input.scale, input.offset});
  }
  for (size_t o = 0; o < objectives.size(); ++o) {
    const std::string field = objectives.size() == 1 ? ".y" : absl::StrCat(".y[", o, "]");
    auto targets = TargetFeed::Create(absl::StrCat(path, field), data.y[o], objectives[o]);
    if (!targets.ok()) return targets.status();
    feed.targets_.push_back(*std::move(targets));
  }
  if (data.sample_weight) {
    auto weights = ReadWeights(path, *data.sample_weight);
    if (!weights.ok()) return weights.status();
    feed.weights_ = *std::move(weights);
  }
  return feed;
}

void DataFeed::Inputs(const kernels::KernelTable& kernels, std::span<const int32_t> samples,
                      float* x) const {
  for (size_t i = 0; i < samples.size(); ++i) {
    for (const Input& input : inputs_) {
      const int64_t bytes = input.size * DTypeSize(input.x.dtype);
      const size_t next = i + std::clamp<int64_t>(kAhead / bytes, 1, kMostAhead);
      for (size_t k = i == 0 ? 0 : next; k <= next && k < samples.size(); ++k) {
        Prefetch(input.x.bytes.subspan(samples[k] * bytes, bytes));
      }
      Load(kernels, input, samples[i], x);
      x += input.size;
    }
  }
}

void DataFeed::Load(const kernels::KernelTable& kernels, const Input& input, int64_t sample,
                    float* x) const {
  const int64_t bytes = input.size * DTypeSize(input.x.dtype);
  const std::span<const std::byte> raw = input.x.bytes.subspan(sample * bytes, bytes);
  if (input.x.dtype == DType::kUint8) {
    kernels.scale_uint8(reinterpret_cast<const uint8_t*>(raw.data()), input.size, input.scale,
                        input.offset, x);
    return;
  }
  float* out = x;
  ForElements(input.x.dtype, raw, [&](auto element) {
    *out++ = static_cast<float>(element);
    return true;
  });
  kernels.scale_float(x, input.size, input.scale, input.offset, x);
}

TargetMemory DataFeed::MakeTargetMemory(size_t o, int64_t samples) const {
  TargetMemory memory = targets_[o].MakeMemory(samples);
  if (!weights_.empty()) memory.weights.resize(samples);
  return memory;
}

Targets DataFeed::GatherTargets(size_t o, std::span<const int32_t> samples,
                                TargetMemory& memory) const {
  Targets targets = targets_[o].Gather(samples, memory);
  if (weights_.empty()) return targets;
  std::transform(samples.begin(), samples.end(), memory.weights.begin(),
                 [&](int32_t s) { return weights_[s]; });
  targets.weights = memory.weights.data();
  return targets;
}

}  // namespace lockstep
