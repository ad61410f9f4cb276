#include <algorithm>
#include <cmath>

#include "core/network/network.h"
#include "core/network/orthogonal.h"
#include "core/numerics/normal.h"
#include "core/numerics/random.h"

namespace lockstep {
namespace {

// The standard deviation of a normal distribution of deviation 1 without what is more than 2 from
// its mean.
constexpr double kTruncatedDeviation = 0.87962566103423978;

// values[i] = low + u[i] * (high - low), u within [0, 1).
void FillUniform(const Random& random, float low, float high, std::span<float> values) {
  const float range = high - low;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t bits = random.Block(0, static_cast<uint32_t>(i / 4))[i % 4];
    values[i] = std::fma(Random::Uniform(bits), range, low);
  }
}

// values[i] = mean + z[i] * deviation. Truncated: a z beyond 2 is drawn again, each time from the
// next position's numbers.
void FillNormal(const Random& random, float mean, float deviation, bool truncated,
                std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const auto draw = [&](uint32_t position) {
      return NormalFromBits(random.Block(position, static_cast<uint32_t>(i / 4))[i % 4]);
    };
    float z = draw(0);
    for (uint32_t again = 1; truncated && std::abs(z) > 2.0f; ++again) z = draw(again);
    values[i] = std::fma(z, deviation, mean);
  }
}

// Of this variance and mean 0.
void FillTruncatedNormal(const Random& random, double variance, std::span<float> values) {
  const double deviation = std::sqrt(variance) / kTruncatedDeviation;
  FillNormal(random, 0.0f, static_cast<float>(deviation), /*truncated=*/true, values);
}

void FillScaled(const v1::VarianceScaling& spec, double fan_in, double fan_out,
                const Random& random, std::span<float> values) {
  const double fan = spec.mode() == "fan_in"    ? fan_in
                     : spec.mode() == "fan_out" ? fan_out
                                                : (fan_in + fan_out) / 2.0;
  const double variance = spec.scale() / fan;
  if (spec.distribution() == "truncated_normal") {
    return FillTruncatedNormal(random, variance, values);
  }
  if (spec.distribution() == "untruncated_normal") {
    return FillNormal(random, 0.0f, static_cast<float>(std::sqrt(variance)), /*truncated=*/false,
                      values);
  }
  const auto limit = static_cast<float>(std::sqrt(3.0 * variance));
  FillUniform(random, -limit, limit, values);
}

void FillIdentity(int64_t columns, float gain, std::span<float> values) {
  std::fill(values.begin(), values.end(), 0.0f);
  const int64_t rows = std::ssize(values) / columns;
  for (int64_t i = 0; i < std::min(rows, columns); ++i) values[i * columns + i] = gain;
}

void Fill(const NetworkTensor& tensor, const Random& random, std::span<float> values) {
  const v1::Initializer& initializer = tensor.spec.initializer;
  const auto fan_in = static_cast<double>(tensor.spec.fan_in);
  const auto fan_out = static_cast<double>(tensor.spec.fan_out);
  const auto fill_uniform = [&](double limit) {
    const auto rounded = static_cast<float>(limit);
    FillUniform(random, -rounded, rounded, values);
  };
  switch (initializer.kind_case()) {
    case v1::Initializer::kOnes:
      std::fill(values.begin(), values.end(), 1.0f);
      return;
    case v1::Initializer::kConstant:
      std::fill(values.begin(), values.end(), initializer.constant().value());
      return;
    case v1::Initializer::kGlorotUniform:
      return fill_uniform(std::sqrt(6.0 / (fan_in + fan_out)));
    case v1::Initializer::kHeUniform:
      return fill_uniform(std::sqrt(6.0 / fan_in));
    case v1::Initializer::kLecunUniform:
      return fill_uniform(std::sqrt(3.0 / fan_in));
    case v1::Initializer::kRandomUniform:
      return FillUniform(random, initializer.random_uniform().minval(),
                         initializer.random_uniform().maxval(), values);
    case v1::Initializer::kGlorotNormal:
      return FillTruncatedNormal(random, 2.0 / (fan_in + fan_out), values);
    case v1::Initializer::kHeNormal:
      return FillTruncatedNormal(random, 2.0 / fan_in, values);
    case v1::Initializer::kLecunNormal:
      return FillTruncatedNormal(random, 1.0 / fan_in, values);
    case v1::Initializer::kRandomNormal:
      return FillNormal(random, initializer.random_normal().mean(),
                        initializer.random_normal().stddev(), /*truncated=*/false, values);
    case v1::Initializer::kTruncatedNormal:
      return FillNormal(random, initializer.truncated_normal().mean(),
                        initializer.truncated_normal().stddev(), /*truncated=*/true, values);
    case v1::Initializer::kVarianceScaling:
      return FillScaled(initializer.variance_scaling(), fan_in, fan_out, random, values);
    case v1::Initializer::kOrthogonal: {
      const int64_t columns = tensor.spec.shape.back();
      return FillOrthogonal(random, tensor.size / columns, columns, initializer.orthogonal().gain(),
                            values);
    }
    case v1::Initializer::kIdentity:
      return FillIdentity(tensor.spec.shape.back(), initializer.identity().gain(), values);
    case v1::Initializer::kZeros:
    case v1::Initializer::KIND_NOT_SET:
      std::fill(values.begin(), values.end(), 0.0f);
      return;
  }
}

}  // namespace

void Network::Initialize(uint64_t seed, std::span<float> parameters,
                         std::span<float> buffers) const {
  uint32_t index = 0;
  const auto fill = [&](std::span<const NetworkTensor> tensors, std::span<float> flat) {
    for (const NetworkTensor& tensor : tensors) {
      const v1::Initializer& initializer = tensor.spec.initializer;
      const Random random(initializer.has_seed() ? initializer.seed() : seed,
                          RandomPurpose::kInitialize, index++, 0);
      const auto values = flat.subspan(tensor.offset, tensor.size);
      const std::vector<float>& given = tensor.spec.values;
      if (given.empty()) {
        Fill(tensor, random, values);
      } else if (given.size() == 1) {
        std::ranges::fill(values, given[0]);
      } else {
        std::ranges::copy(given, values.begin());
      }
    }
  };
  fill(parameters_, parameters);
  fill(buffers_, buffers);
}

}  // namespace lockstep
