#include "core/tensor/aligned_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace lockstep {
namespace {

// The kernels rely on it, and plans on memory that nobody has written being zero.
TEST(AlignedBuffer, StartsOnACacheLineAndIsZero) {
  for (int64_t size : {1, 17, 1 << 20, (2 << 20) - 1, 2 << 20, (3 << 20) + 1}) {  // 8 MiB are large
    for (int turn = 0; turn < 2; ++turn) {
      AlignedBuffer<float> buffer(size);
      ASSERT_EQ(buffer.size(), size);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u) << size;
      EXPECT_TRUE(std::ranges::all_of(buffer.span(), [](float v) { return v == 0; })) << size;
      std::ranges::fill(buffer.span(), 1.0f);  // what the next one may find
    }
  }
}

TEST(AlignedBuffer, MovesItsValues) {
  for (int64_t size : {3, 3 << 20}) {
    AlignedBuffer<float> from(size);
    from.data()[size - 1] = 5;
    const float* const memory = from.data();
    AlignedBuffer<float> to(3 << 20);
    to = std::move(from);
    EXPECT_EQ(to.data(), memory);
    EXPECT_EQ(to.span().back(), 5);
  }
}

TEST(AlignedBuffer, IsEmpty) {
  EXPECT_EQ(AlignedBuffer<float>().data(), nullptr);
  EXPECT_TRUE(AlignedBuffer<float>(0).span().empty());
}

}  // namespace
}  // namespace lockstep
