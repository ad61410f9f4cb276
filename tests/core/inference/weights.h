#ifndef LOCKSTEP_TESTS_CORE_INFERENCE_WEIGHTS_H_
#define LOCKSTEP_TESTS_CORE_INFERENCE_WEIGHTS_H_

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/network/network.h"

namespace lockstep {

inline std::vector<float> RandomFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

// What a training might have left, in the network's layout.
struct Weights {
  Weights(const Network& network, uint32_t seed)
      : parameters(RandomFloats(network.parameters_size(), seed)),
        buffers(RandomFloats(network.buffers_size(), seed + 1)) {
    for (const NetworkTensor& tensor : network.buffers()) {
      if (!tensor.name.ends_with("variance")) continue;
      for (int64_t i = 0; i < tensor.size; ++i) {
        float& variance = buffers[tensor.offset + i];
        variance = 0.1f + std::abs(variance);
      }
    }
  }

  std::vector<float> parameters;
  std::vector<float> buffers;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_INFERENCE_WEIGHTS_H_
