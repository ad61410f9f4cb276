#ifndef LOCKSTEP_CORE_LAYERS_PACKED_H_
#define LOCKSTEP_CORE_LAYERS_PACKED_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/kernels/kernels.h"

// What a layer's packed memory holds: right operands of contractions, and the lists of their k.
// Both are written one after the other and taken in the same order.
namespace lockstep {

inline int64_t PackedOperandBytes(int64_t depth, int64_t columns) {
  const auto bytes = static_cast<int64_t>(sizeof(kernels::RightOperand)) +
                     kernels::PackedFloats(depth, columns) * static_cast<int64_t>(sizeof(float));
  return (bytes + 63) / 64 * 64;
}

// Packs as KernelTable::pack does. Returns where the next thing may be written.
inline std::byte* PackOperand(const kernels::KernelTable& kernels, const float* src, int64_t stride,
                              bool transposed, int64_t depth, int64_t columns, std::byte* memory) {
  auto* operand = reinterpret_cast<kernels::RightOperand*>(memory);
  std::byte* end = memory + PackedOperandBytes(depth, columns);
  float* floats = reinterpret_cast<float*>(end) - kernels::PackedFloats(depth, columns);
  *operand = kernels.pack(src, stride, transposed, depth, columns, floats);
  return end;
}

inline const kernels::RightOperand& TakeOperand(const std::byte*& memory, int64_t depth,
                                                int64_t columns) {
  const auto* operand = reinterpret_cast<const kernels::RightOperand*>(memory);
  memory += PackedOperandBytes(depth, columns);
  return *operand;
}

// Writes the k of a contraction into packed memory, as runs that lie together in the operands, cut
// where a chunk ends (core/README.md, rule 1): chunks count k from 0 over all runs added. In memory
// their number comes first.
class SegmentWriter {
 public:
  // Bytes for `runs` runs that add up to `depth`.
  static int64_t Bytes(int64_t runs, int64_t depth, int64_t chunk) {
    return static_cast<int64_t>(sizeof(int64_t)) +
           (runs + depth / chunk) * static_cast<int64_t>(sizeof(kernels::Segment));
  }

  SegmentWriter(int64_t chunk, std::byte* memory)
      : chunk_(chunk),
        count_(reinterpret_cast<int64_t*>(memory)),
        segments_(reinterpret_cast<kernels::Segment*>(count_ + 1)) {
    *count_ = 0;
  }

  void Add(int64_t a, int64_t b, int64_t length) {
    while (length > 0) {
      const int64_t part = std::min(length, chunk_ - in_chunk_);
      in_chunk_ += part;
      const bool ends = in_chunk_ == chunk_;
      segments_[(*count_)++] = {a, b, part, ends};
      if (ends) in_chunk_ = 0;
      a += part;
      b += part;
      length -= part;
    }
  }

  // Ends the last chunk. Returns where the next list may start.
  std::byte* Finish() {
    if (*count_ > 0) segments_[*count_ - 1].ends_chunk = true;
    return reinterpret_cast<std::byte*>(segments_ + *count_);
  }

 private:
  const int64_t chunk_;
  int64_t* const count_;
  kernels::Segment* const segments_;
  int64_t in_chunk_ = 0;
};

// The list that was written at `memory`, which moves on to the next one.
inline std::span<const kernels::Segment> TakeSegments(const std::byte*& memory) {
  const int64_t* count = reinterpret_cast<const int64_t*>(memory);
  const auto* segments = reinterpret_cast<const kernels::Segment*>(count + 1);
  memory = reinterpret_cast<const std::byte*>(segments + *count);
  return {segments, static_cast<size_t>(*count)};
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_PACKED_H_
