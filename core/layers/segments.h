#ifndef LOCKSTEP_CORE_LAYERS_SEGMENTS_H_
#define LOCKSTEP_CORE_LAYERS_SEGMENTS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/kernels/kernels.h"

namespace lockstep {

// The k of a contraction as runs that lie together in memory, cut where a chunk ends
// (core/README.md, rule 1): chunks count k from 0 over all runs added.
class SegmentList {
 public:
  explicit SegmentList(int64_t chunk) : chunk_(chunk) {}

  void Add(int64_t a, int64_t b, int64_t length) {
    while (length > 0) {
      const int64_t part = std::min(length, chunk_ - in_chunk_);
      in_chunk_ += part;
      const bool ends = in_chunk_ == chunk_;
      segments_.push_back({a, b, part, ends});
      if (ends) in_chunk_ = 0;
      a += part;
      b += part;
      length -= part;
    }
  }

  std::vector<kernels::Segment> Finish() && {
    if (!segments_.empty()) segments_.back().ends_chunk = true;
    return std::move(segments_);
  }

 private:
  int64_t chunk_;
  int64_t in_chunk_ = 0;
  std::vector<kernels::Segment> segments_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_SEGMENTS_H_
