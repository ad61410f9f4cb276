#include "core/training/state_hash.h"

#include "core/data/digest.h"

namespace lockstep {

std::string HashState(std::span<const std::span<const float>> vectors, int64_t step) {
  Hasher hasher(Hasher::Algorithm::kBlake2s256);
  for (std::span<const float> vector : vectors) hasher.Update(std::as_bytes(vector));
  hasher.Update(std::as_bytes(std::span(&step, 1)));
  return hasher.Finish();
}

}  // namespace lockstep
