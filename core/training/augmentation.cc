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

void FlipHorizontally(int64_t height, int64_t width, int64_t channels, float* image) {
  for (int64_t h = 0; h < height; ++h) {
    float* left = image + h * width * channels;
    float* right = left + (width - 1) * channels;
    for (; left < right; left += channels, right -= channels) {
      std::swap_ranges(left, left + channels, right);
    }
  }
}

void FlipVertically(int64_t height, int64_t row, float* image) {
  for (int64_t h = 0; h < height / 2; ++h) {
    std::swap_ranges(image + h * row, image + (h + 1) * row, image + (height - 1 - h) * row);
  }
}

// Down and to the right by so many; the row that a row comes from is read before it is written.
void Shift(int64_t rows, int64_t columns, int64_t height, int64_t row, int64_t channels,
           float outside, float* image) {
  if (rows == 0 && columns == 0) return;
  const int64_t gap = std::abs(columns) * channels;
  for (int64_t i = 0; i < height; ++i) {
    const int64_t to = rows > 0 ? height - 1 - i : i;
    const int64_t from = to - rows;
    float* y = image + to * row;
    if (from < 0 || from >= height) {
      std::fill_n(y, row, outside);
      continue;
    }
    const float* x = image + from * row;
    if (columns >= 0) {
      std::copy_backward(x, x + row - gap, y + row);
      std::fill_n(y, gap, outside);
    } else {
      std::copy(x + gap, x + row, y);
      std::fill_n(y + row - gap, gap, outside);
    }
  }
}

// The part of a square around (row, column) that lies in the image.
void CutOut(int64_t row, int64_t column, int64_t side, int64_t height, int64_t width,
            int64_t channels, float outside, float* image) {
  const int64_t top = std::max<int64_t>(0, row - side / 2);
  const int64_t bottom = std::min(height, row - side / 2 + side);
  const int64_t left = std::max<int64_t>(0, column - side / 2);
  const int64_t right = std::min(width, column - side / 2 + side);
  for (int64_t h = top; h < bottom; ++h) {
    std::fill(image + (h * width + left) * channels, image + (h * width + right) * channels,
              outside);
  }
}

}  // namespace

Augmentation::Augmentation(const v1::Augmentation& spec, std::span<const NetworkInput> inputs,
                           uint64_t seed)
    : spec_(spec), seed_(seed) {
  const bool active =
      spec.shift() > 0 || spec.horizontal_flip() || spec.vertical_flip() || spec.cutout() > 0;
  for (size_t i = 0; active && i < inputs.size(); ++i) {
    const Shape& shape = inputs[i].shape;
    if (shape.rank() != 3) continue;
    images_.push_back({.input = static_cast<uint32_t>(i),
                       .begin = inputs[i].begin,
                       .height = shape[0],
                       .width = shape[1],
                       .channels = shape[2],
                       .outside = inputs[i].offset});
  }
}

void Augmentation::Apply(int64_t epoch, int32_t sample, float* row) const {
  for (const Image& image : images_) Change(image, epoch, sample, row + image.begin);
}

void Augmentation::Change(const Image& image, int64_t epoch, int32_t sample, float* x) const {
  const auto [input, begin, height, width, channels, outside] = image;
  const Random random(seed_, RandomPurpose::kAugmentation, input, static_cast<uint32_t>(epoch));
  const auto position = static_cast<uint32_t>(sample);
  const std::array<uint32_t, 4> moves = random.Block(position, 0);
  if (spec_.horizontal_flip() && Heads(moves[0])) FlipHorizontally(height, width, channels, x);
  if (spec_.vertical_flip() && Heads(moves[1])) FlipVertically(height, width * channels, x);
  if (spec_.shift() > 0) {
    const int64_t choices = 2 * spec_.shift() + 1;
    Shift(Below(choices, moves[2]) - spec_.shift(), Below(choices, moves[3]) - spec_.shift(),
          height, width * channels, channels, outside, x);
  }
  if (spec_.cutout() > 0) {
    const std::array<uint32_t, 4> centre = random.Block(position, 1);
    CutOut(Below(height, centre[0]), Below(width, centre[1]), spec_.cutout(), height, width,
           channels, outside, x);
  }
}

}  // namespace lockstep
