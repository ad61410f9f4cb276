#include "core/training/shuffle.h"

#include <numeric>
#include <utility>

#include "core/numerics/random.h"

namespace lockstep {

void ShuffledOrder(uint64_t seed, int64_t epoch, std::span<int32_t> order) {
  std::iota(order.begin(), order.end(), 0);
  const Random random(seed, RandomPurpose::kShuffle, 0, static_cast<uint32_t>(epoch));
  std::array<uint32_t, 4> bits = {};
  uint32_t block = UINT32_MAX;
  for (uint32_t i = static_cast<uint32_t>(order.size()); i-- > 1;) {
    if (i / 4 != block) bits = random.Block(0, block = i / 4);
    const auto other = static_cast<uint32_t>(uint64_t{bits[i % 4]} * (i + 1) >> 32);
    std::swap(order[i], order[other]);
  }
}

}  // namespace lockstep
