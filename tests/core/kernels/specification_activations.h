#ifndef LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_ACTIVATIONS_H_
#define LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_ACTIVATIONS_H_

#include <cmath>

#include "tests/core/kernels/specification.h"

// Rules 18 to 20 of core/README.md as scalar loops.
namespace lockstep::specification {

inline float Expm1(float x) {
  const ExpParts e = SplitExp(x);
  return std::fma(e.fraction, e.power, e.power - 1.0f);
}

// log(1 + z), z within [0, 1].
inline float Log1p(float z) {
  const bool halves = z > 0.414213562f;
  const float m = halves ? (z - 1.0f) * 0.5f : z;
  const float e = halves ? 1.0f : 0.0f;
  float p = 7.0376836292e-2f;
  for (float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                  -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f}) {
    p = std::fma(p, m, c);
  }
  const float m2 = m * m;
  float y = std::fma(e, -2.12194440e-4f, m * m2 * p);
  y = std::fma(m2, -0.5f, y);
  return std::fma(e, 0.693359375f, m + y);
}

struct Normal {
  float density, probability;
};
inline Normal NormalAt(float x) {
  const float a = std::isnan(x) ? x : Clamp(std::fabs(x), 0.0f, 14.0f);
  const float square = a * a;
  const float rest = std::fma(a, a, -square);
  const float e = Exp(square * -0.5f);
  const float density = std::fma(rest * -0.5f, e, e);
  const float t = 4.0f / (4.0f + a);
  float p = 1.717727158e-2f;
  for (float c :
       {-6.611965672e-2f, 5.969411939e-2f, 1.738347508e-2f, 2.221406327e-2f, 8.136698583e-2f,
        7.390283937e-2f, 9.508956809e-2f, 9.954634883e-2f, 9.974498981e-2f}) {
    p = std::fma(p, t, c);
  }
  const float tail = density * (p * t);
  return {density, 0.0f > x ? tail : 1.0f - tail};
}

inline float Rectifier(float x, float slope, float most) {
  const float y = 0.0f > x ? (slope == 0.0f ? 0.0f : slope * x) : x;
  return y > most ? most : y;
}
inline float RectifierSlope(float y, float dy, float slope, float most) {
  if (!(y > 0.0f)) return slope == 0.0f ? 0.0f : slope * dy;
  return most > y ? dy : 0.0f;
}

inline float Elu(float x, float alpha, float scale) {
  return x > 0.0f ? scale * x : (scale * alpha) * Expm1(x);
}
inline float EluSlope(float x, float alpha, float scale) {
  return x > 0.0f ? scale : (scale * alpha) * Exp(x);
}

inline float Gelu(float x) { return (-14.0f > x ? -14.0f : x) * NormalAt(x).probability; }
inline float GeluSlope(float x) {
  const Normal normal = NormalAt(x);
  return std::fma(Clamp(x, -14.0f, 14.0f), normal.density * 0.398942280f, normal.probability);
}

// x * sigmoid(u), and its slope, with u and its slope functions of x clamped to +-most.
inline float Silu(float x) {
  const float v = -87.0f > x ? -87.0f : x;
  return v * Sigmoid(Clamp(v, -87.0f, 87.0f));
}
inline float GeluTanhArgument(float x) { return x * std::fma(x * x, 7.13548163e-2f, 1.59576912f); }
inline float GeluTanh(float x) {
  const float v = -10.0f > x ? -10.0f : x;
  return v * Sigmoid(GeluTanhArgument(Clamp(v, -10.0f, 10.0f)));
}
inline float GatedSlope(float v, float u, float slope) {
  const float e = Exp(0.0f - u);
  const float s = 1.0f / (1.0f + e);
  return s * std::fma(v * slope, e * s, 1.0f);
}
inline float SiluSlope(float x) {
  const float v = Clamp(x, -87.0f, 87.0f);
  return GatedSlope(v, v, 1.0f);
}
inline float GeluTanhSlope(float x) {
  const float v = Clamp(x, -10.0f, 10.0f);
  return GatedSlope(v, GeluTanhArgument(v), std::fma(v * v, 0.214064449f, 1.59576912f));
}

inline float HardSigmoid(float x) {
  const float t = Relu(x + 3.0f);
  return (t > 6.0f ? 6.0f : t) / 6.0f;
}
inline float HardSigmoidSlope(float y, float dy) { return y > 0.0f && y < 1.0f ? dy / 6.0f : 0.0f; }

inline float Softplus(float x) { return Relu(x) + Log1p(Exp(0.0f - std::fabs(x))); }

// Rule 19: the sum of term(j, accumulator) over a row of n values, read as rows of 16.
inline double RowSum(int64_t n, const std::function<float(int64_t, float)>& add) {
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += 16 * kBlock) {
    const int64_t end = std::min(n, begin + 16 * kBlock);
    for (int64_t lane = 0; lane < 16; ++lane) {
      const int64_t rows = std::max<int64_t>(0, (end - begin - lane + 15) / 16);
      sum += BlockSum(rows, [&](int64_t r, float s) { return add(begin + r * 16 + lane, s); });
    }
  }
  return sum;
}

struct NormalizedRow {
  Floats normalized, y;
  float inverse;
};
inline NormalizedRow NormalizeRow(const float* x, int64_t n, double epsilon, const Floats& gamma,
                                  const Floats& beta) {
  const auto count = static_cast<double>(n);
  const double mean =
      x[0] + RowSum(n, [&](int64_t j, float s) { return s + (x[j] - x[0]); }) / count;
  const auto m = static_cast<float>(mean);
  const double m2 = RowSum(n, [&](int64_t j, float s) {
    const float d = x[j] - m;
    return std::fma(d, d, s);
  });
  const double variance = std::max(0.0, m2 / count - (mean - m) * (mean - m));
  const double inverse = 1.0 / std::sqrt(variance + epsilon);
  const auto a = static_cast<float>(inverse);
  const auto b = static_cast<float>((m - mean) * inverse);
  NormalizedRow row = {{}, {}, a};
  for (int64_t j = 0; j < n; ++j) {
    row.normalized.push_back(std::fma(x[j] - m, a, b));
    row.y.push_back(std::fma(row.normalized[j], gamma[j], beta[j]));
  }
  return row;
}
inline Floats NormalizeRowBackward(const float* dy, const NormalizedRow& row, const Floats& gamma) {
  const int64_t n = std::ssize(row.y);
  const auto count = static_cast<double>(n);
  const auto g = [&](int64_t j) { return dy[j] * gamma[j]; };
  const double s1 = RowSum(n, [&](int64_t j, float s) { return s + g(j); });
  const double s2 =
      RowSum(n, [&](int64_t j, float s) { return std::fma(g(j), row.normalized[j], s); });
  const auto a = static_cast<float>(-s1 / count);
  const auto b = static_cast<float>(-s2 / count);
  Floats dx;
  for (int64_t j = 0; j < n; ++j) {
    dx.push_back(std::fma(row.normalized[j], b, g(j) + a) * row.inverse);
  }
  return dx;
}

// Rule 20, forward, of one sample [positions, channels].
inline Floats GroupNormalize(const float* x, int64_t positions, int64_t channels, int64_t groups,
                             double epsilon, const Floats& gamma, const Floats& beta) {
  const int64_t width = channels / groups;
  const Floats sample(x, x + positions * channels);
  Floats y(positions * channels);
  for (int64_t begin = 0; begin < channels; begin += width) {
    std::vector<Moments> moments;
    double mean = 0, m2 = 0;
    for (int64_t c = begin; c < begin + width; ++c) {
      moments.push_back(BatchMoments(sample, channels, c, {0, 1}, positions));
      mean += moments.back().mean;
    }
    mean /= static_cast<double>(width);
    for (const Moments& channel : moments) {
      const double d = channel.mean - mean;
      m2 += channel.m2 + (d * d) * static_cast<double>(positions);
    }
    const double inverse = 1.0 / std::sqrt(m2 / static_cast<double>(positions * width) + epsilon);
    const auto m = static_cast<float>(mean);
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t c = begin; c < begin + width; ++c) {
        const float normalized = std::fma(x[p * channels + c] - m, static_cast<float>(inverse),
                                          static_cast<float>((m - mean) * inverse));
        y[p * channels + c] = std::fma(normalized, gamma[c], beta[c]);
      }
    }
  }
  return y;
}

}  // namespace lockstep::specification

#endif  // LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_ACTIVATIONS_H_
