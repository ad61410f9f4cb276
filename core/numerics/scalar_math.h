#ifndef LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_
#define LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_

#include <cstdint>

namespace lockstep {

// base^exponent by square-and-multiply: a function of its arguments alone, unlike libm's pow, whose
// result depends on the C library and the CPU (core/README.md, rule 9).
inline double Power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_
