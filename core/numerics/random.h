#ifndef LOCKSTEP_CORE_NUMERICS_RANDOM_H_
#define LOCKSTEP_CORE_NUMERICS_RANDOM_H_

#include <array>
#include <cstdint>

namespace lockstep {

// What random numbers are for; part of their counter.
enum class RandomPurpose : uint32_t { kInitialize = 1, kShuffle = 2, kDropout = 3, kNoise = 4 };

// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", 2011). The key is the job's seed; the counter says what a number is for, so any thread
// or worker can compute any of them in any order (core/README.md, rule 10). A value type without
// state.
class Random {
 public:
  // `index` counts layers or tensors of the model.
  Random(uint64_t seed, RandomPurpose purpose, uint32_t index, uint32_t step)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        stream_(static_cast<uint32_t>(purpose) << 16 | index),
        step_(step) {}

  // Four numbers of 32 bits. `position` is a sample's place in the global batch, or 0.
  std::array<uint32_t, 4> Block(uint32_t position, uint32_t block) const;

  // Within [0, 1): a multiple of 2^-24.
  static float Uniform(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

 private:
  std::array<uint32_t, 2> key_;
  uint32_t stream_;
  uint32_t step_;
};

// Philox4x32-10 itself.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_RANDOM_H_
