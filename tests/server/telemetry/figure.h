#ifndef LOCKSTEP_TESTS_SERVER_TELEMETRY_FIGURE_H_
#define LOCKSTEP_TESTS_SERVER_TELEMETRY_FIGURE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/telemetry/metrics.h"

namespace lockstep {

// The value of a series, named as in Prometheus' text: "lockstep_jobs{state=\"queued\"}". A series
// that is not there is a failure.
inline double Figure(const Metrics& metrics, const std::string& series) {
  const std::string text = metrics.Text();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  for (const std::string& line : lines) {
    const size_t space = line.rfind(' ');
    double value = 0;
    if (space == line.npos || line.compare(0, space, series) != 0) continue;
    if (absl::SimpleAtod(line.substr(space + 1), &value)) return value;
  }
  ADD_FAILURE() << "no " << series << " in\n" << text;
  return -1;
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_TELEMETRY_FIGURE_H_
