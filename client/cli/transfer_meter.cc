#include "client/cli/transfer_meter.h"

#include <fmt/format.h>

#include <utility>

#include "absl/time/clock.h"
#include "client/cli/format.h"
#include "client/cli/progress_line.h"

namespace lockstep {

TransferMeter::TransferMeter(std::string label) : label_(std::move(label)), start_(absl::Now()) {}

void TransferMeter::operator()(int64_t done_bytes, int64_t total_bytes) {
  if (first_bytes_ < 0) first_bytes_ = done_bytes;
  const absl::Time now = absl::Now();
  if (!terminal_.interactive() || now - drawn_ < absl::Milliseconds(100)) return;
  drawn_ = now;
  ProgressLine line;
  line.label = label_;
  line.elapsed_s = absl::ToDoubleSeconds(now - start_);
  line.count = FormatBytes(done_bytes) + "/" + FormatBytes(total_bytes);
  if (total_bytes > 0) line.fraction = static_cast<double>(done_bytes) / total_bytes;
  const double rate = line.elapsed_s > 0 ? (done_bytes - first_bytes_) / line.elapsed_s : 0;
  if (rate > 0) {
    line.remaining_s = (total_bytes - done_bytes) / rate;
    line.rate = FormatBytes(static_cast<int64_t>(rate)) + "/s";
  }
  terminal_.Draw(Render(line, terminal_.style()));
}

}  // namespace lockstep
