#ifndef LOCKSTEP_TESTS_ORACLE_GOLDEN_H_
#define LOCKSTEP_TESTS_ORACLE_GOLDEN_H_

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/data/tensor.h"
#include "core/formats/safetensors.h"
#include "core/tensor/aligned_buffer.h"

// The golden vectors of this folder (README.md), for tests. GOLDEN_DIR is where the files are.
namespace lockstep {

struct GoldenTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct GoldenCase {
  std::string name;
  std::string spec;  // JSON
  std::map<std::string, GoldenTensor> tensors;

  bool has(const std::string& tensor) const { return tensors.contains(tensor); }
  const GoldenTensor& operator[](const std::string& tensor) const { return tensors.at(tensor); }

  // The case's Layer, Loss or Optimizer.
  template <typename Message>
  Message Spec() const {
    Message message;
    const auto status = google::protobuf::util::JsonStringToMessage(spec, &message);
    EXPECT_TRUE(status.ok()) << spec << ": " << status.ToString();
    return message;
  }
};

// All cases of golden/<kind>.safetensors, by name.
inline std::vector<GoldenCase> ReadGolden(const std::string& kind) {
  std::ifstream stream(GOLDEN_DIR "/" + kind + ".safetensors", std::ios::binary);
  const std::string read{std::istreambuf_iterator<char>(stream), {}};
  AlignedBuffer<char> bytes(static_cast<int64_t>(read.size()));
  std::copy(read.begin(), read.end(), bytes.data());
  const auto file = ReadSafetensors({bytes.data(), read.size()});
  EXPECT_TRUE(file.ok()) << "golden/" << kind << ".safetensors: " << file.status();
  if (!file.ok()) return {};
  std::map<std::string, GoldenCase> cases;
  for (const auto& [name, spec] : file->metadata) cases[name] = {name, spec, {}};
  for (const FloatTensorView& tensor : file->tensors) {
    const size_t slash = tensor.name.find('/');
    cases.at(tensor.name.substr(0, slash)).tensors[tensor.name.substr(slash + 1)] = {
        tensor.shape, {tensor.values.begin(), tensor.values.end()}};
  }
  std::vector<GoldenCase> list;
  for (auto& [name, c] : cases) list.push_back(std::move(c));
  return list;
}

// Compares to relative 1e-5 of scale(wanted value) and reports the worst element.
template <typename Scale>
void ExpectWithin(std::span<const float> got, const GoldenTensor& want, const std::string& what,
                  Scale scale) {
  constexpr double kRelative = 1e-5;
  ASSERT_EQ(got.size(), want.values.size()) << what;
  double worst = 0;
  size_t worst_at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want.values[i]);
    if (error == 0) continue;  // also where the scale is 0
    const double relative = std::isnan(error) ? INFINITY : error / scale(want.values[i]);
    if (relative > worst) {
      worst = relative;
      worst_at = i;
    }
  }
  EXPECT_LE(worst, kRelative) << what << " of shape " << ShapeString(want.shape) << ": element "
                              << worst_at << " is " << got[worst_at] << ", should be "
                              << want.values[worst_at];
}

// For what is a sum: its terms cancel, so the scale is the tensor's largest value, or `least` where
// that is more.
inline void ExpectClose(std::span<const float> got, const GoldenTensor& want,
                        const std::string& what, double least = 0) {
  double largest = least;
  for (float value : want.values) largest = std::max(largest, std::abs(double{value}));
  ExpectWithin(got, want, what, [largest](float) { return largest; });
}

// Each element by its own value, or by `least` where that is more.
inline void ExpectEachClose(std::span<const float> got, const GoldenTensor& want,
                            const std::string& what, double least) {
  ExpectWithin(got, want, what,
               [least](float value) { return std::max(least, std::abs(double{value})); });
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_ORACLE_GOLDEN_H_
