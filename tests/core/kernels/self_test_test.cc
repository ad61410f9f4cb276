// What a joining worker proves: every kernel has a stored answer, each instruction set gives it,
// and a kernel that rounds in another way does not.

#include "core/kernels/self_test.h"

#include <gtest/gtest.h>

#include <string>

namespace lockstep::kernels {
namespace {

TEST(SelfTest, EveryInstructionSetGivesTheStoredAnswers) {
  for (const KernelTable* const* table = AllKernels(); *table != nullptr; ++table) {
    std::string actual;
    for (const SelfTestResult& result : RunSelfTest(**table)) {
      actual += std::string(result.kernel) + " " + result.hash + "\n";
    }
    const absl::Status status = SelfTest(**table);
    EXPECT_TRUE(status.ok()) << status << "\nall hashes, for kCases:\n" << actual;
  }
}

void ExpectRefused(const KernelTable& table, const std::string& message) {
  const absl::Status status = SelfTest(table);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find(message), std::string::npos) << status;
}

TEST(SelfTest, NamesTheKernelsWithOtherBits) {
  KernelTable table = *Kernels();
  table.name = "broken";
  // Two roundings instead of one.
  table.normalize = [](const float* x, int64_t rows, int64_t channels, const ChannelMap& map, bool,
                       float* y) {
    for (int64_t i = 0; i < rows * channels; ++i) {
      const int64_t c = i % channels;
      y[i] = (x[i] - map.m[c]) * map.a[c] + map.b[c];
    }
  };
  ExpectRefused(table, "with the kernels for broken: normalize gives ");
  // Subnormal results flushed to zero.
  table.add = [](int64_t n, const float* a, const float* b, bool, float* y) {
    for (int64_t i = 0; i < n; ++i) {
      y[i] = a[i] + b[i];
      if (y[i] > -0x1p-126f && y[i] < 0x1p-126f) y[i] = 0.0f;
    }
  };
  ExpectRefused(table, ", add gives ");
}

}  // namespace
}  // namespace lockstep::kernels
