#ifndef LOCKSTEP_CORE_TRAINING_STATE_HASH_H_
#define LOCKSTEP_CORE_TRAINING_STATE_HASH_H_

#include <cstdint>
#include <span>
#include <string>

namespace lockstep {

// BLAKE2s-256, in hexadecimal, of a state after `step` steps (core/README.md, rule 14): `vectors`
// are the parameters, the buffers, the optimizer's vectors and perhaps the average of the weights,
// in this order.
std::string HashState(std::span<const std::span<const float>> vectors, int64_t step);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_STATE_HASH_H_
