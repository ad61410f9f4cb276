#include "core/training/gradient_clipping.h"

#include <cmath>

namespace lockstep {

GradientClipping::GradientClipping(const v1::GradientClipping& spec, const Network& network)
    : spec_(spec),
      blocks_(CutIntoBlocks(network, [](const NetworkTensor&) { return true; })),
      squares_(blocks_.size()),
      factors_(blocks_.size()) {}

void GradientClipping::Apply(ThreadPool& pool, std::span<float> gradient, double* norm) {
  if (norm != nullptr || spec_.norm() > 0 || spec_.global_norm() > 0) SumSquares(pool, gradient);
  if (norm != nullptr) *norm = Length(0, blocks_.size());
  if (spec_.value() > 0) {
    const auto limit = static_cast<float>(spec_.value());
    pool.ParallelFor(std::ssize(blocks_), [&](int64_t b, int) {
      for (float& g : gradient.subspan(blocks_[b].begin, blocks_[b].size)) {
        g = g > limit ? limit : -limit > g ? -limit : g;
      }
    });
  } else if (spec_.norm() > 0) {
    ScaleToNorm(pool, spec_.norm(), gradient);
  } else if (spec_.global_norm() > 0) {
    ScaleToNorm(pool, spec_.global_norm(), gradient);
  }
}

void GradientClipping::SumSquares(ThreadPool& pool, std::span<const float> gradient) {
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t b, int) {
    squares_[b] = SumOfBlock(gradient.data() + blocks_[b].begin, blocks_[b].size,
                             [](double g) { return g * g; });
  });
}

double GradientClipping::Length(size_t begin, size_t end) const {
  double sum = 0;
  for (size_t b = begin; b < end; ++b) sum += squares_[b];
  return std::sqrt(sum);
}

// Of each tensor, or with global_norm of all of them.
void GradientClipping::ScaleToNorm(ThreadPool& pool, double norm, std::span<float> gradient) {
  const size_t count = blocks_.size();
  for (size_t begin = 0, end = 0; begin < count; begin = end) {
    while (end < count &&
           (spec_.global_norm() > 0 || blocks_[end].tensor == blocks_[begin].tensor)) {
      ++end;
    }
    const double length = Length(begin, end);
    const float factor = length > norm ? static_cast<float>(norm / length) : 1.0f;
    std::fill(factors_.begin() + begin, factors_.begin() + end, factor);
  }
  pool.ParallelFor(std::ssize(blocks_), [&](int64_t b, int) {
    if (factors_[b] == 1.0f) return;
    for (float& g : gradient.subspan(blocks_[b].begin, blocks_[b].size)) g *= factors_[b];
  });
}

}  // namespace lockstep
