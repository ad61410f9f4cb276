#ifndef LOCKSTEP_TESTS_CORE_NETWORK_REFUSAL_H_
#define LOCKSTEP_TESTS_CORE_NETWORK_REFUSAL_H_

#include <gtest/gtest.h>

#include <string>

#include "core/network/network.h"
#include "tests/core/parse_json.h"

namespace lockstep {

// A model that Network::Build must refuse.
struct Refusal {
  std::string model;
  std::string message;  // a part of it
};

inline void ExpectRefused(const Refusal& refusal) {
  SCOPED_TRACE(refusal.model.substr(0, 300));
  auto spec = ParseJson<v1::ModelSpec>(refusal.model);
  const auto network = Network::Build(&spec);
  ASSERT_FALSE(network.ok());
  EXPECT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(network.status().message().find(refusal.message), std::string::npos)
      << "expected: " << refusal.message << "\n     got: " << network.status().message();
}

// A model on 4 features, on an 8 x 8 image with 2 channels.
inline std::string Flat(const std::string& layers) {
  return R"({"inputs":[{"shape":[4]}],"layers":[)" + layers + "]}";
}
inline std::string Image(const std::string& layers) {
  return R"({"inputs":[{"shape":[8,8,2]}],"layers":[)" + layers + "]}";
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_NETWORK_REFUSAL_H_
