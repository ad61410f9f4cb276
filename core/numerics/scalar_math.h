#ifndef LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_
#define LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_

#include <cstdint>

namespace lockstep {

// Functions of their arguments alone, unlike libm's, whose results depend on the C library and the
// CPU (core/README.md, rules 9 and 15).

// base^exponent by square-and-multiply.
inline double Power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

// base^exponent for base > 0 and exponent within [0, 1): the product of the roots base^(1/2),
// base^(1/4), ... that the exponent's binary digits name.
double RootPower(double base, double exponent);

// cos(pi * x) for x within [0, 1], to the last bit or two.
double CosPi(double x);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NUMERICS_SCALAR_MATH_H_
