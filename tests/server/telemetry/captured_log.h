#ifndef LOCKSTEP_TESTS_SERVER_TELEMETRY_CAPTURED_LOG_H_
#define LOCKSTEP_TESTS_SERVER_TELEMETRY_CAPTURED_LOG_H_

#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "server/telemetry/log.h"

namespace lockstep {

// Takes what this process logs while it lives; afterwards it goes to standard error.
class CapturedLog {
 public:
  explicit CapturedLog(LogFormat format) {
    SetUpLogging(format, std::make_shared<spdlog::sinks::ostream_sink_mt>(out_));
  }
  ~CapturedLog() { SetUpLogging(LogFormat::kText); }

  // Only while nobody logs.
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines = absl::StrSplit(out_.str(), '\n');
    lines.pop_back();  // what comes after the last line's end
    return lines;
  }

 private:
  std::ostringstream out_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_TELEMETRY_CAPTURED_LOG_H_
