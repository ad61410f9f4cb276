#ifndef LOCKSTEP_CORE_KERNELS_SELF_TEST_H_
#define LOCKSTEP_CORE_KERNELS_SELF_TEST_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/kernels/kernels.h"

namespace lockstep::kernels {

// What a kernel computed from fixed inputs, and what it must compute.
struct SelfTestResult {
  const char* kernel;  // its name in KernelTable
  const char* answer;  // hash of the right outputs
  std::string hash;    // of these outputs
};

// Runs every function of the table on inputs of awkward sizes, some of them subnormal. Takes a few
// milliseconds.
std::vector<SelfTestResult> RunSelfTest(const KernelTable& kernels);

// Whether this machine, compiler and build compute the contract's bits: a worker that does not must
// not join others. FAILED_PRECONDITION names each kernel that differs, with both hashes.
absl::Status SelfTest(const KernelTable& kernels);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_CORE_KERNELS_SELF_TEST_H_
