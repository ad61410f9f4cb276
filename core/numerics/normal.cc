#include "core/numerics/normal.h"

#include <cmath>

namespace lockstep {
namespace {

// c[0] + c[1] * x + ... by Horner's rule.
template <int kSize>
double Polynomial(const double (&c)[kSize], double x) {
  double value = c[kSize - 1];
  for (int i = kSize - 2; i >= 0; --i) value = value * x + c[i];
  return value;
}

// The natural logarithm of a normal x > 0: with x = m * 2^e, sqrt(1/2) <= m < sqrt(2), and
// z = (m - 1) / (m + 1), it is e * ln 2 + 2 * (z + z^3 / 3 + z^5 / 5 + ...).
double Log(double x) {
  constexpr double kLn2 = 0.693147180559945309417;
  constexpr double kSqrtHalf = 0.707106781186547524401;
  constexpr double kOdd[] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9, 1.0 / 11,
                             1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21};
  int exponent;
  double m = std::frexp(x, &exponent);  // within [1/2, 1), exactly
  if (m < kSqrtHalf) {
    m *= 2;
    --exponent;
  }
  const double z = (m - 1) / (m + 1);
  return exponent * kLn2 + 2 * z * Polynomial(kOdd, z * z);
}

constexpr double kA[] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                         1.9715909503065514427e+3, 1.3731693765509461125e+4,
                         4.5921953931549871457e+4, 6.7265770927008700853e+4,
                         3.3430575583588128105e+4, 2.5090809287301226727e+3};
constexpr double kB[] = {1.0,
                         4.2313330701600911252e+1,
                         6.8718700749205790830e+2,
                         5.3941960214247511077e+3,
                         2.1213794301586595867e+4,
                         3.9307895800092710610e+4,
                         2.8729085735721942674e+4,
                         5.2264952788528545610e+3};
constexpr double kC[] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                         5.76949722146069140550e0,  3.64784832476320460504e0,
                         1.27045825245236838258e0,  2.41780725177450611770e-1,
                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr double kD[] = {1.0,
                         2.05319162663775882187e0,
                         1.67638483018380384940e0,
                         6.89767334985100004550e-1,
                         1.48103976427480074590e-1,
                         1.51986665636164571966e-2,
                         5.47593808499534494600e-4,
                         1.05075007164441684324e-9};

}  // namespace

float NormalFromBits(uint32_t bits) {
  const double q = (static_cast<double>(bits) + 0.5) * 0x1p-32 - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return static_cast<float>(q * Polynomial(kA, r) / Polynomial(kB, r));
  }
  // AS 241's third region begins below 1.4e-11, which no 32 bits reach.
  const double r = std::sqrt(-Log(0.5 - std::fabs(q))) - 1.6;
  const double value = Polynomial(kC, r) / Polynomial(kD, r);
  return static_cast<float>(q < 0 ? -value : value);
}

}  // namespace lockstep
