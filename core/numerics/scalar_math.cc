#include "core/numerics/scalar_math.h"

#include <cmath>

namespace lockstep {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Taylor's series of cosine and sine, to the terms that matter for x within [0, pi/4].
constexpr int kTerms = 9;

double Cosine(double x) {
  const double z = x * x;
  double sum = 1.0;
  for (int n = kTerms; n > 0; --n) sum = 1.0 - sum * z / ((2 * n - 1) * (2 * n));
  return sum;
}

double Sine(double x) {
  const double z = x * x;
  double sum = 1.0;
  for (int n = kTerms; n > 0; --n) sum = 1.0 - sum * z / ((2 * n) * (2 * n + 1));
  return sum * x;
}

}  // namespace

double RootPower(double base, double exponent) {
  double result = 1.0;
  while (exponent > 0) {
    base = std::sqrt(base);
    exponent += exponent;
    if (exponent >= 1) {
      result *= base;
      exponent -= 1;
    }
  }
  return result;
}

double CosPi(double x) {
  if (x <= 0.25) return Cosine(kPi * x);
  if (x >= 0.75) return -Cosine(kPi * (1.0 - x));
  return x <= 0.5 ? Sine(kPi * (0.5 - x)) : -Sine(kPi * (x - 0.5));
}

}  // namespace lockstep
