#ifndef LOCKSTEP_CORE_NUMERICS_CONTRACT_H_
#define LOCKSTEP_CORE_NUMERICS_CONTRACT_H_

namespace lockstep {

// The name of the numerics contract: the rules of core/README.md, under which the bits of a result
// are promised.
inline constexpr char kContract[] = "lockstep-1";

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_CONTRACT_H_
