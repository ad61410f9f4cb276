#ifndef LOCKSTEP_SERVER_TELEMETRY_TRACE_CONTEXT_H_
#define LOCKSTEP_SERVER_TELEMETRY_TRACE_CONTEXT_H_

#include <string>
#include <string_view>

namespace lockstep {

// The header, here metadata, by which a request belongs to a trace (W3C Trace Context, level 1).
inline constexpr char kTraceparentKey[] = "traceparent";

// The trace id of a traceparent: 32 hexadecimal digits. Empty when it is not well-formed. Versions
// to come are read as the specification asks, by what their beginning has in common with ours.
std::string TraceIdOf(std::string_view traceparent);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TELEMETRY_TRACE_CONTEXT_H_
