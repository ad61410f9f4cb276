#ifndef LOCKSTEP_CORE_NUMERICS_NORMAL_H_
#define LOCKSTEP_CORE_NUMERICS_NORMAL_H_

#include <cstdint>

namespace lockstep {

// A standard normal number from 32 random bits: the inverse of the distribution function at
// (bits + 1/2) * 2^-32, so it is finite, within +-6.34, and NormalFromBits(~bits) is its negative.
// Wichura's algorithm AS 241 (PPND16, Applied Statistics 37, 1988) in double with a logarithm of
// our own, rounded once: a function of its argument alone (core/README.md, rule 10).
float NormalFromBits(uint32_t bits);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_NORMAL_H_
