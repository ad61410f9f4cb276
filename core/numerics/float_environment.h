#ifndef LOCKSTEP_CORE_NUMERICS_FLOAT_ENVIRONMENT_H_
#define LOCKSTEP_CORE_NUMERICS_FLOAT_ENVIRONMENT_H_

namespace lockstep {

// Round to nearest, gradual underflow, no traps: what the contract's bits rest on (rule 12). A
// library linked with -ffast-math may have changed it behind our back, so every thread that
// computes sets it before it starts.
void ResetFloatEnvironment();

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_FLOAT_ENVIRONMENT_H_
