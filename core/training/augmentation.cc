#include "core/training/augmentation.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/numerics/random.h"

namespace lockstep {
namespace {

// A whole number within [0, n).
int64_t Below(int64_t n, uint32_t bits) {
  return static_cast<int64_t>(uint64_t{bits} * static_cast<uint64_t>(n) >> 32);
}

bool Heads(uint32_t bits) { return bits >> 31 != 0; }

}  // namespace

Augmentation::Augmentation(const v1::Augmentation& spec, const Shape& image, float outside,
                           uint64_t seed)
    : spec_(spec),
      active_(spec.shift() > 0 || spec.horizontal_flip() || spec.vertical_flip() ||
              spec.cutout() > 0),
      outside_(outside),
      seed_(seed) {
  if (!active_) return;
  height_ = image.dims()[0];
  width_ = image.dims()[1];
  channels_ = image.dims()[2];
}

void Augmentation::Apply(int64_t epoch, int32_t sample, float* image) const {
  if (!active_) return;
  const Random random(seed_, RandomPurpose::kAugmentation, 0, static_cast<uint32_t>(epoch));
  const auto position = static_cast<uint32_t>(sample);
  const std::array<uint32_t, 4> moves = random.Block(position, 0);
  if (spec_.horizontal_flip() && Heads(moves[0])) FlipHorizontally(image);
  if (spec_.vertical_flip() && Heads(moves[1])) FlipVertically(image);
  if (spec_.shift() > 0) {
    const int64_t choices = 2 * spec_.shift() + 1;
    Shift(Below(choices, moves[2]) - spec_.shift(), Below(choices, moves[3]) - spec_.shift(),
          image);
  }
  if (spec_.cutout() > 0) {
    const std::array<uint32_t, 4> centre = random.Block(position, 1);
    CutOut(Below(height_, centre[0]), Below(width_, centre[1]), image);
  }
}

void Augmentation::FlipHorizontally(float* image) const {
  for (int64_t h = 0; h < height_; ++h) {
    float* left = image + h * width_ * channels_;
    float* right = left + (width_ - 1) * channels_;
    for (; left < right; left += channels_, right -= channels_) {
      std::swap_ranges(left, left + channels_, right);
    }
  }
}

void Augmentation::FlipVertically(float* image) const {
  const int64_t row = width_ * channels_;
  for (int64_t h = 0; h < height_ / 2; ++h) {
    std::swap_ranges(image + h * row, image + (h + 1) * row, image + (height_ - 1 - h) * row);
  }
}

// Down and to the right by so many; the row that a row comes from is read before it is written.
void Augmentation::Shift(int64_t rows, int64_t columns, float* image) const {
  if (rows == 0 && columns == 0) return;
  const int64_t row = width_ * channels_;
  const int64_t gap = std::abs(columns) * channels_;
  for (int64_t i = 0; i < height_; ++i) {
    const int64_t to = rows > 0 ? height_ - 1 - i : i;
    const int64_t from = to - rows;
    float* y = image + to * row;
    if (from < 0 || from >= height_) {
      std::fill_n(y, row, outside_);
      continue;
    }
    const float* x = image + from * row;
    if (columns >= 0) {
      std::copy_backward(x, x + row - gap, y + row);
      std::fill_n(y, gap, outside_);
    } else {
      std::copy(x + gap, x + row, y);
      std::fill_n(y + row - gap, gap, outside_);
    }
  }
}

// The part of a square around (row, column) that lies in the image.
void Augmentation::CutOut(int64_t row, int64_t column, float* image) const {
  const int64_t side = spec_.cutout();
  const int64_t top = std::max<int64_t>(0, row - side / 2);
  const int64_t bottom = std::min(height_, row - side / 2 + side);
  const int64_t left = std::max<int64_t>(0, column - side / 2);
  const int64_t right = std::min(width_, column - side / 2 + side);
  for (int64_t h = top; h < bottom; ++h) {
    std::fill(image + (h * width_ + left) * channels_, image + (h * width_ + right) * channels_,
              outside_);
  }
}

}  // namespace lockstep
