#ifndef LOCKSTEP_CLIENT_CLI_TRANSFER_METER_H_
#define LOCKSTEP_CLIENT_CLI_TRANSFER_METER_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "client/cli/terminal.h"

namespace lockstep {

// A live line for an upload or download; nothing when standard output is not a terminal.
class TransferMeter {
 public:
  explicit TransferMeter(std::string label);

  // Matches Client::TransferProgress.
  void operator()(int64_t done_bytes, int64_t total_bytes);

 private:
  const std::string label_;
  const absl::Time start_;
  absl::Time drawn_ = absl::InfinitePast();
  int64_t first_bytes_ = -1;  // a resumed transfer's rate counts from here
  Terminal terminal_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_TRANSFER_METER_H_
