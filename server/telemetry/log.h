#ifndef LOCKSTEP_SERVER_TELEMETRY_LOG_H_
#define LOCKSTEP_SERVER_TELEMETRY_LOG_H_

#include <concepts>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "lockstep/v1/job.pb.h"

namespace spdlog::sinks {
class sink;
}  // namespace spdlog::sinks

// What a server or worker says about itself: one line an event, for people or as JSON:
//
//   LogLine(LogLevel::kInfo, "job changed", {{"job", id}, {"attempt", 2}, {"reason", why}});
//
//   2026-11-23T10:00:00.123Z info job changed job=cnn attempt=2 reason="its worker is gone"
//   {"time":"2026-11-23T10:00:00.123Z","level":"info","message":"job changed","job":"cnn", ...}
//
// Whatever a value holds, it stays one value on one line: clients cannot forge either. Thread-safe.
namespace lockstep {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kCritical };
enum class LogFormat { kText, kJson };

// A name (a literal of a-z and _) with a value. An empty text is left out of the line.
class LogField {
 public:
  LogField(std::string_view key, std::string_view text) : key_(key), value_(text) {}
  LogField(std::string_view key, const std::string& text) : key_(key), value_(text) {}
  LogField(std::string_view key, const char* text) : key_(key), value_(text) {}
  LogField(std::string_view key, const absl::Status& status)
      : key_(key), value_(status.ToString()) {}
  LogField(std::string_view key, std::integral auto number)
      : key_(key), value_(std::to_string(number)), number_(true) {}
  // Six digits.
  LogField(std::string_view key, double number);

  std::string_view key() const { return key_; }
  const std::string& value() const { return value_; }
  bool is_number() const { return number_; }

 private:
  std::string_view key_;
  std::string value_;
  bool number_ = false;
};

// `message` is a literal: what happened, in words that never change. Levels below the one that the
// environment's SPDLOG_LEVEL names (info) are not written.
void LogLine(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

// Whether lines of this level are written: for values that cost something.
bool WritesLog(LogLevel level);

// The fields `job` and, if it has one, `trace_id` before the others; never the trace of another
// request, which the thread happens to work on.
void LogJob(LogLevel level, std::string_view message, const v1::Job& job,
            std::initializer_list<LogField> fields = {});

// Fields of every line that this thread writes while it lives, after the line's own; one that the
// line has itself, be it empty, is left out. Scopes nest. Must end on its thread, the newest first.
class LogScope {
 public:
  explicit LogScope(std::initializer_list<LogField> fields);
  explicit LogScope(std::vector<LogField> fields);
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

  // Of all scopes of this thread: for another one that does a part of the same.
  static std::vector<LogField> Fields();

 private:
  const std::vector<LogField> fields_;
  const LogScope* const outer_;
};

// Where lines go, and how they look; before, they go to standard output as text. A null sink is
// standard error. Call once, before threads.
void SetUpLogging(LogFormat format, std::shared_ptr<spdlog::sinks::sink> sink = nullptr);

// Why a program ends before it has begun, on standard error: "lockstepd: <why>" for people, or a
// line of level critical.
void LogRefusal(const std::string& why);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TELEMETRY_LOG_H_
