// Augmentation against its definition as scalar loops (core/README.md, rule 17).

#include "core/training/augmentation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "core/numerics/random.h"

namespace lockstep {
namespace {

constexpr int64_t kHeight = 5, kWidth = 7, kChannels = 3;
constexpr float kOutside = -2.5f;
constexpr uint64_t kSeed = 77;
const std::vector<NetworkInput> kInput = {
    {"image", Shape{kHeight, kWidth, kChannels}, 1.0f, kOutside, 0}};
using Image = std::vector<float>;

Image Counting() {
  Image image(kHeight * kWidth * kChannels);
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(i + 1);
  return image;
}

// Where each value comes from, pixel by pixel.
Image Specification(const v1::Augmentation& spec, int64_t epoch, int32_t sample, const Image& x) {
  const auto block = [&](uint32_t number) {
    return Philox({static_cast<uint32_t>(epoch), 8u << 16, static_cast<uint32_t>(sample), number},
                  {static_cast<uint32_t>(kSeed), 0});
  };
  const auto below = [](uint32_t bits, int64_t n) {
    return static_cast<int64_t>((uint64_t{bits} * static_cast<uint64_t>(n)) >> 32);
  };
  const bool mirror = spec.horizontal_flip() && block(0)[0] >= 1u << 31;
  const bool turn = spec.vertical_flip() && block(0)[1] >= 1u << 31;
  const int64_t shift = spec.shift();
  const int64_t down = below(block(0)[2], 2 * shift + 1) - shift;
  const int64_t right = below(block(0)[3], 2 * shift + 1) - shift;
  const int64_t top = below(block(1)[0], kHeight) - spec.cutout() / 2;
  const int64_t left = below(block(1)[1], kWidth) - spec.cutout() / 2;
  Image y;
  for (int64_t h = 0; h < kHeight; ++h) {
    for (int64_t w = 0; w < kWidth; ++w) {
      int64_t from_h = h - down, from_w = w - right;
      const bool inside = from_h >= 0 && from_h < kHeight && from_w >= 0 && from_w < kWidth;
      const bool cut = h >= top && h < top + spec.cutout() && w >= left && w < left + spec.cutout();
      if (turn) from_h = kHeight - 1 - from_h;
      if (mirror) from_w = kWidth - 1 - from_w;
      for (int64_t c = 0; c < kChannels; ++c) {
        y.push_back(inside && !cut ? x[(from_h * kWidth + from_w) * kChannels + c] : kOutside);
      }
    }
  }
  return y;
}

TEST(AugmentationTest, IsWhatItsDefinitionSays) {
  for (const bool horizontal : {false, true}) {
    for (const bool vertical : {false, true}) {
      for (const int64_t shift : {0, 1, 4}) {
        for (const int64_t cutout : {0, 1, 2, 5}) {
          v1::Augmentation spec;
          spec.set_horizontal_flip(horizontal);
          spec.set_vertical_flip(vertical);
          spec.set_shift(shift);
          spec.set_cutout(cutout);
          const Augmentation augmentation(spec, kInput, kSeed);
          for (int epoch = 1; epoch <= 3; ++epoch) {
            for (int32_t sample = 0; sample < 20; ++sample) {
              Image image = Counting();
              augmentation.Apply(epoch, sample, image.data());
              ASSERT_EQ(image, Specification(spec, epoch, sample, Counting()))
                  << spec.ShortDebugString() << ", epoch " << epoch << ", sample " << sample;
            }
          }
        }
      }
    }
  }
}

// Every shift is as likely as any other, and so is either side of a flip.
TEST(AugmentationTest, DrawsEveryShiftAlike) {
  v1::Augmentation spec;
  spec.set_shift(2);
  const Augmentation augmentation(spec, kInput, kSeed);
  constexpr int kImages = 25000;
  std::map<float, int> seen;  // by the pixel that came to the middle
  for (int32_t sample = 0; sample < kImages; ++sample) {
    Image image = Counting();
    augmentation.Apply(1, sample, image.data());
    ++seen[image[(2 * kWidth + 3) * kChannels]];
  }
  EXPECT_EQ(seen.size(), 25u);
  for (const auto& [pixel, count] : seen) EXPECT_NEAR(count, kImages / 25, 150) << pixel;
}

// Of several inputs it changes the images, each in its own way.
TEST(AugmentationTest, LeavesInputsAloneThatAreNoImages) {
  std::vector<NetworkInput> inputs = {{"facts", Shape{3}, 1.0f, 0.0f, 0}, kInput[0], kInput[0]};
  const int64_t size = kInput[0].shape.size();
  inputs[1].begin = 3;
  inputs[2].begin = 3 + size;
  v1::Augmentation spec;
  spec.set_horizontal_flip(true);
  const Augmentation augmentation(spec, inputs, kSeed);
  int alike = 0;
  for (int32_t sample = 0; sample < 100; ++sample) {
    Image row(3 + 2 * size);
    std::iota(row.begin(), row.begin() + 3, 1.0f);
    for (int k = 0; k < 2; ++k) std::ranges::copy(Counting(), row.begin() + 3 + k * size);
    augmentation.Apply(1, sample, row.data());
    EXPECT_EQ(Image(row.begin(), row.begin() + 3), (Image{1, 2, 3}));
    alike += std::equal(row.begin() + 3, row.begin() + 3 + size, row.begin() + 3 + size);
  }
  EXPECT_GT(alike, 25);
  EXPECT_LT(alike, 75);
}

TEST(AugmentationTest, LeavesAnythingAloneWithoutASpec) {
  Image row = {1, 2, 3};
  Augmentation({}, kInput, kSeed).Apply(1, 0, row.data());
  EXPECT_EQ(row, (Image{1, 2, 3}));
}

}  // namespace
}  // namespace lockstep
