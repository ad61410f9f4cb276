#include "server/telemetry/trace_context.h"

#include <algorithm>

namespace lockstep {
namespace {

// "00-<32 digits>-<16 digits>-01"
constexpr size_t kTraceBegin = 3;
constexpr size_t kParentBegin = 36;
constexpr size_t kFlagsBegin = 53;
constexpr size_t kLength = 55;

bool IsHex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

}  // namespace

std::string TraceIdOf(std::string_view traceparent) {
  if (traceparent.size() < kLength) return "";
  const std::string_view version = traceparent.substr(0, 2);
  const std::string_view trace = traceparent.substr(kTraceBegin, kParentBegin - kTraceBegin - 1);
  const std::string_view parent = traceparent.substr(kParentBegin, kFlagsBegin - kParentBegin - 1);
  const std::string_view flags = traceparent.substr(kFlagsBegin, kLength - kFlagsBegin);
  for (const size_t end : {kTraceBegin, kParentBegin, kFlagsBegin}) {
    if (traceparent[end - 1] != '-') return "";
  }
  for (std::string_view part : {version, trace, parent, flags}) {
    if (!IsHex(part)) return "";
  }
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return "";
  // Only a later version may have more, after another dash.
  if (traceparent.size() > kLength && (version == "00" || traceparent[kLength] != '-')) return "";
  return std::string(trace);
}

}  // namespace lockstep
