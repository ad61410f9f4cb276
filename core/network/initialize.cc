#include <cmath>

#include "core/network/network.h"
#include "core/numerics/random.h"

namespace lockstep {
namespace {

// values[i] = low + u[i] * (high - low), u within [0, 1).
void FillUniform(const Random& random, float low, float high, std::span<float> values) {
  const float range = high - low;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t bits = random.Block(0, static_cast<uint32_t>(i / 4))[i % 4];
    values[i] = std::fma(Random::Uniform(bits), range, low);
  }
}

void Fill(const NetworkTensor& tensor, const Random& random, std::span<float> values) {
  const v1::Initializer& initializer = tensor.spec.initializer;
  switch (initializer.kind_case()) {
    case v1::Initializer::kOnes:
      std::fill(values.begin(), values.end(), 1.0f);
      return;
    case v1::Initializer::kConstant:
      std::fill(values.begin(), values.end(), initializer.constant().value());
      return;
    case v1::Initializer::kGlorotUniform: {
      const double fans = static_cast<double>(tensor.spec.fan_in + tensor.spec.fan_out);
      const float limit = static_cast<float>(std::sqrt(6.0 / fans));
      return FillUniform(random, -limit, limit, values);
    }
    case v1::Initializer::kHeUniform: {
      const double fan = static_cast<double>(tensor.spec.fan_in);
      const float limit = static_cast<float>(std::sqrt(6.0 / fan));
      return FillUniform(random, -limit, limit, values);
    }
    case v1::Initializer::kRandomUniform:
      return FillUniform(random, initializer.random_uniform().minval(),
                         initializer.random_uniform().maxval(), values);
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
      const Random random(seed, RandomPurpose::kInitialize, index++, 0);
      Fill(tensor, random, flat.subspan(tensor.offset, tensor.size));
    }
  };
  fill(parameters_, parameters);
  fill(buffers_, buffers);
}

}  // namespace lockstep
