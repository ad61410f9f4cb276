#include "core/layers/pooling.h"

#include <algorithm>

#include "core/data/tensor.h"

namespace lockstep {
namespace {

// Bounds what the numbers of a window's pixels come to.
constexpr int64_t kMaxExtent = 1 << 20;

struct PoolAxis {
  int64_t in;
  int64_t pool;
  int64_t stride;
  int64_t out = 0;
  int64_t pad = 0;
};

// Fills in `out` and `pad`, which are as for convolutions. `window` and `input` are for messages.
absl::Status PlaceWindows(const BuildContext& c, std::string* padding, const std::string& window,
                          std::span<PoolAxis> axes) {
  if (padding->empty()) *padding = "valid";
  if (*padding != "valid" && *padding != "same") {
    return FieldError(c, "padding", absl::StrCat("must be valid or same; got \"", *padding, "\""));
  }
  const std::string input = ShapeString(c.input().dims());
  for (PoolAxis& axis : axes) {
    if (*padding == "valid") {
      if (axis.pool > axis.in) {
        return FieldError(c, "pool_size", absl::StrCat(window, " does not fit the input ", input));
      }
      axis.out = (axis.in - axis.pool) / axis.stride + 1;
      continue;
    }
    // So the taps of a window have numbers of 31 bits.
    if (axis.pool > 2 * axis.in + 1) {
      return FieldError(c, "pool_size",
                        absl::StrCat(window, " is more than twice the input ", input));
    }
    axis.out = (axis.in + axis.stride - 1) / axis.stride;
    axis.pad = std::max<int64_t>(0, (axis.out - 1) * axis.stride + axis.pool - axis.in) / 2;
  }
  return absl::OkStatus();
}

kernels::PoolGeometry MakeGeometry(const PoolAxis& h, const PoolAxis& w, int64_t channels) {
  return {.height = h.in,
          .width = w.in,
          .channels = channels,
          .out_height = h.out,
          .out_width = w.out,
          .pool_height = h.pool,
          .pool_width = w.pool,
          .stride_height = h.stride,
          .stride_width = w.stride,
          .pad_height = h.pad,
          .pad_width = w.pad};
}

}  // namespace

absl::StatusOr<Pooling> CheckImagePooling(const BuildContext& c,
                                          google::protobuf::RepeatedField<int64_t>* pool_size,
                                          google::protobuf::RepeatedField<int64_t>* strides,
                                          std::string* padding) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  const auto pool = ParsePair(c, "pool_size", pool_size, {2, 2}, kMaxExtent);
  if (!pool.ok()) return pool.status();
  const auto stride = ParsePair(c, "strides", strides, *pool, kMaxExtent);
  if (!stride.ok()) return stride.status();
  PoolAxis axes[] = {{c.input()[0], pool->height, stride->height},
                     {c.input()[1], pool->width, stride->width}};
  const std::string window = absl::StrCat("[", pool->height, ", ", pool->width, "]");
  if (auto s = PlaceWindows(c, padding, window, axes); !s.ok()) return s;
  const int64_t channels = c.input()[2];
  return Pooling{.geometry = MakeGeometry(axes[0], axes[1], channels),
                 .output = {axes[0].out, axes[1].out, channels}};
}

absl::StatusOr<Pooling> CheckSequencePooling(const BuildContext& c, int64_t pool_size,
                                             int64_t strides, std::string* padding) {
  if (auto s = CheckSequence(c); !s.ok()) return s;
  for (const auto& [field, value] : {std::pair{"pool_size", pool_size}, {"strides", strides}}) {
    if (value >= 1 && value <= kMaxExtent) continue;
    return FieldError(c, field, absl::StrCat("must be within [1, ", kMaxExtent, "], got ", value));
  }
  PoolAxis axis = {c.input()[0], pool_size, strides};
  if (auto s = PlaceWindows(c, padding, absl::StrCat(pool_size), {&axis, 1}); !s.ok()) return s;
  const int64_t channels = c.input()[1];
  return Pooling{
      .geometry = MakeGeometry({.in = 1, .pool = 1, .stride = 1, .out = 1}, axis, channels),
      .output = {axis.out, channels}};
}

Shape GlobalPoolingShape(const Shape& input, bool keepdims) {
  std::vector<int64_t> dims(keepdims ? input.rank() : 1, 1);
  dims.back() = input.channels();
  return Shape(std::move(dims));
}

}  // namespace lockstep
