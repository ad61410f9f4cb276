#include "server/telemetry/log.h"

#include <spdlog/cfg/env.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/telemetry/json_string.h"

namespace lockstep {
namespace {

constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJsonPattern[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";

std::atomic<LogFormat> log_format = LogFormat::kText;
thread_local const LogScope* innermost = nullptr;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kCritical:
      break;
  }
  return spdlog::level::critical;
}

// Needs no quotes where a space ends it.
bool IsBare(std::string_view value) {
  return std::ranges::all_of(value, [](unsigned char c) {
    return absl::ascii_isalnum(c) ||
           std::string_view("_-.:/+@%[],").find(c) != std::string_view::npos;
  });
}

// Writes the fields that the line does not have yet.
class Line {
 public:
  Line(LogFormat format, std::string_view message) : json_(format == LogFormat::kJson) {
    if (json_) {
      text_ = R"("message":)";
      AppendJsonString(message, &text_);
    } else {
      text_ = message;
    }
  }

  void Add(const LogField& field) {
    if (std::ranges::find(keys_, field.key()) != keys_.end()) return;
    keys_.push_back(field.key());
    if (field.value().empty()) return;
    if (json_) {
      absl::StrAppend(&text_, ",\"", absl::string_view(field.key().data(), field.key().size()),
                      "\":");
    } else {
      absl::StrAppend(&text_, " ", absl::string_view(field.key().data(), field.key().size()), "=");
    }
    if (field.is_number() || (!json_ && IsBare(field.value()))) {
      text_ += field.value();
    } else {
      AppendJsonString(field.value(), &text_);
    }
  }

  const std::string& text() const { return text_; }

 private:
  const bool json_;
  std::string text_;
  std::vector<std::string_view> keys_;
};

void Write(LogLevel level, std::string_view message, std::initializer_list<LogField> first,
           std::initializer_list<LogField> then) {
  if (!WritesLog(level)) return;
  Line line(log_format, message);
  for (const LogField& field : first) line.Add(field);
  for (const LogField& field : then) line.Add(field);
  for (const LogField& field : LogScope::Fields()) line.Add(field);
  spdlog::default_logger_raw()->log(ToSpdlog(level),
                                    spdlog::string_view_t(line.text().data(), line.text().size()));
}

}  // namespace

// What JSON has no number for is text.
LogField::LogField(std::string_view key, double number)
    : key_(key), value_(absl::StrFormat("%.6g", number)), number_(std::isfinite(number)) {}

bool WritesLog(LogLevel level) { return spdlog::default_logger_raw()->should_log(ToSpdlog(level)); }

void LogLine(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  Write(level, message, fields, {});
}

void LogJob(LogLevel level, std::string_view message, const v1::Job& job,
            std::initializer_list<LogField> fields) {
  Write(level, message, {{"job", job.id()}, {"trace_id", job.trace_id()}}, fields);
}

LogScope::LogScope(std::initializer_list<LogField> fields)
    : LogScope(std::vector<LogField>(fields)) {}

LogScope::LogScope(std::vector<LogField> fields)
    : fields_(std::move(fields)), outer_(std::exchange(innermost, this)) {}

LogScope::~LogScope() { innermost = outer_; }

std::vector<LogField> LogScope::Fields() {
  std::vector<LogField> all;
  for (const LogScope* scope = innermost; scope != nullptr; scope = scope->outer_) {
    all.insert(all.end(), scope->fields_.begin(), scope->fields_.end());
  }
  return all;
}

void SetUpLogging(LogFormat format, std::shared_ptr<spdlog::sinks::sink> sink) {
  if (sink == nullptr) sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("lockstepd", std::move(sink)));
  spdlog::set_pattern(format == LogFormat::kJson ? kJsonPattern : kTextPattern,
                      spdlog::pattern_time_type::utc);
  spdlog::cfg::load_env_levels();
  log_format = format;
}

void LogRefusal(const std::string& why) {
  if (log_format == LogFormat::kJson) {
    LogLine(LogLevel::kCritical, "cannot start", {{"error", why}});
  } else {
    std::fprintf(stderr, "lockstepd: %s\n", why.c_str());
  }
}

}  // namespace lockstep
