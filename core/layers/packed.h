#ifndef LOCKSTEP_CORE_LAYERS_PACKED_H_
#define LOCKSTEP_CORE_LAYERS_PACKED_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/kernels/kernels.h"

// What contractions read beside activations: right operands, packed, and the lists of their k.
namespace lockstep {

// Right operands are written one after the other into packed memory, and taken in the same order.
inline int64_t PackedOperandBytes(int64_t depth, int64_t columns) {
  const auto bytes = static_cast<int64_t>(sizeof(kernels::RightOperand)) +
                     kernels::PackedFloats(depth, columns) * static_cast<int64_t>(sizeof(float));
  return (bytes + 63) / 64 * 64;
}

// Packs as KernelTable::pack or pack_transposed does. Returns where the next thing may be written.
inline std::byte* PackOperand(const kernels::KernelTable& kernels, const float* src, int64_t stride,
                              bool transposed, int64_t depth, int64_t columns, std::byte* memory) {
  auto* operand = reinterpret_cast<kernels::RightOperand*>(memory);
  std::byte* end = memory + PackedOperandBytes(depth, columns);
  float* floats = reinterpret_cast<float*>(end) - kernels::PackedFloats(depth, columns);
  *operand = transposed ? kernels.pack_transposed(src, stride, 1, depth, columns, floats)
                        : kernels.pack(src, stride, depth, columns, floats);
  return end;
}

inline const kernels::RightOperand& TakeOperand(const std::byte*& memory, int64_t depth,
                                                int64_t columns) {
  const auto* operand = reinterpret_cast<const kernels::RightOperand*>(memory);
  memory += PackedOperandBytes(depth, columns);
  return *operand;
}

// Writes the k of a contraction as runs that lie together in the operands, cut where a chunk ends
// (core/README.md, rule 1): chunks count k from 0 over all runs added or skipped.
class SegmentWriter {
 public:
  // Segments that `runs` runs of `depth` k in all can take.
  static int64_t Most(int64_t runs, int64_t depth, int64_t chunk) { return runs + depth / chunk; }

  SegmentWriter(int64_t chunk, kernels::Segment* segments) : chunk_(chunk), segments_(segments) {}

  void Add(int64_t a, int64_t b, int64_t length) {
    while (length > 0) {
      const int64_t part = std::min(length, chunk_ - in_chunk_);
      segments_[count_++] = {a, b, part, false};
      Skip(part);
      a += part;
      b += part;
      length -= part;
    }
  }

  // Goes past k whose products are all zero.
  void Skip(int64_t length) {
    in_chunk_ += length;
    if (in_chunk_ < chunk_) return;
    in_chunk_ %= chunk_;
    EndChunk();
  }

  std::span<const kernels::Segment> Finish() {
    EndChunk();
    return {segments_, static_cast<size_t>(count_)};
  }

 private:
  void EndChunk() {
    if (count_ > 0) segments_[count_ - 1].ends_chunk = true;
  }

  const int64_t chunk_;
  kernels::Segment* const segments_;
  int64_t count_ = 0;
  int64_t in_chunk_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_PACKED_H_
