#include "core/training/data_feed.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/data/elements.h"

namespace lockstep {
namespace {

// INVALID_ARGUMENT for the first value that is not a finite float.
absl::Status CheckFinite(absl::string_view path, absl::string_view name, const TensorView& tensor) {
  if (tensor.shape.empty()) return absl::OkStatus();  // no targets
  if (tensor.dtype != DType::kFloat32 && tensor.dtype != DType::kFloat64) return absl::OkStatus();
  const int64_t count = ElementCount(tensor.shape);
  const int64_t size = count / std::max<int64_t>(1, tensor.shape[0]);
  absl::Status status;
  int64_t i = 0;
  ForElements(tensor.dtype, tensor.bytes, [&](auto element) {
    if (!std::isfinite(static_cast<float>(element))) {
      status = absl::InvalidArgumentError(
          absl::StrCat(path, ".", name, ": value ", i % size, " of sample ", i / size, " is ",
                       static_cast<double>(element), "; must be a finite 32-bit float"));
    }
    ++i;
    return status.ok();
  });
  return status;
}

// Shuffled samples lie anywhere: the next one is fetched while this one is converted.
void Prefetch(std::span<const std::byte> bytes) {
  constexpr size_t kLine = 64;
  constexpr size_t kMost = 16384;  // a part of the L1 cache; the hardware goes on from there
  for (size_t i = 0; i < std::min(bytes.size(), kMost); i += kLine) {
    __builtin_prefetch(bytes.data() + i);
  }
}

}  // namespace

absl::StatusOr<DataFeed> DataFeed::Create(absl::string_view path, const LabelledData& data,
                                          const Network& network, int64_t classes) {
  if (auto s = CheckFinite(path, "x", data.x); !s.ok()) return s;
  if (auto s = CheckFinite(path, "y", data.y); !s.ok()) return s;
  DataFeed feed;
  feed.samples_ = data.x.shape[0];
  feed.x_ = data.x;
  feed.input_size_ = network.input().size();
  feed.scale_ = network.scale();
  feed.offset_ = network.offset();
  const int64_t count = ElementCount(data.y.shape);
  if (classes > 0) {
    absl::Status status;
    feed.labels_.reserve(count);
    ForElements(data.y.dtype, data.y.bytes, [&](auto element) {
      if (!(element >= 0 && static_cast<double>(element) < static_cast<double>(classes))) {
        status = absl::InvalidArgumentError(absl::StrCat(
            path, ".y: label of sample ", feed.labels_.size(), " is ",
            static_cast<int64_t>(element), "; the model has classes 0 to ", classes - 1));
        return false;
      }
      feed.labels_.push_back(static_cast<int32_t>(element));
      return true;
    });
    if (!status.ok()) return status;
  } else {
    feed.value_size_ = network.output().size();
    feed.values_.reserve(count);
    ForElements(data.y.dtype, data.y.bytes, [&](auto element) {
      feed.values_.push_back(static_cast<float>(element));
      return true;
    });
  }
  return feed;
}

void DataFeed::Inputs(const kernels::KernelTable& kernels, std::span<const int32_t> samples,
                      float* x) const {
  const int64_t sample_bytes = input_size_ * DTypeSize(x_.dtype);
  for (size_t i = 0; i < samples.size(); ++i) {
    const int64_t first = samples[i] * input_size_;
    if (i + 1 < samples.size())
      Prefetch(x_.bytes.subspan(samples[i + 1] * sample_bytes, sample_bytes));
    if (x_.dtype == DType::kUint8) {
      kernels.scale_uint8(reinterpret_cast<const uint8_t*>(x_.bytes.data()) + first, input_size_,
                          scale_, offset_, x);
    } else {
      float* out = x;
      ForElements(x_.dtype, x_.bytes.subspan(samples[i] * sample_bytes, sample_bytes),
                  [&](auto element) {
                    *out++ = static_cast<float>(element);
                    return true;
                  });
      kernels.scale_float(x, input_size_, scale_, offset_, x);
    }
    x += input_size_;
  }
}

void DataFeed::Labels(std::span<const int32_t> samples, int32_t* labels) const {
  std::transform(samples.begin(), samples.end(), labels, [&](int32_t s) { return labels_[s]; });
}

void DataFeed::Values(std::span<const int32_t> samples, float* values) const {
  for (int32_t sample : samples) {
    values = std::copy_n(values_.data() + sample * value_size_, value_size_, values);
  }
}

}  // namespace lockstep
