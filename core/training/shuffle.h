#ifndef LOCKSTEP_CORE_TRAINING_SHUFFLE_H_
#define LOCKSTEP_CORE_TRAINING_SHUFFLE_H_

#include <cstdint>
#include <span>

namespace lockstep {

// Fills `order` with 0, 1, ..., shuffled by Fisher and Yates' method for epoch `epoch` (from 1): a
// function of its arguments alone. For i from the last place down to 1, place i swaps with place
// floor(u * (i + 1) / 2^32), u the 32-bit number of block i / 4, word i mod 4.
void ShuffledOrder(uint64_t seed, int64_t epoch, std::span<int32_t> order);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_SHUFFLE_H_
