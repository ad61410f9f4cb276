#ifndef LOCKSTEP_SERVER_TELEMETRY_JSON_STRING_H_
#define LOCKSTEP_SERVER_TELEMETRY_JSON_STRING_H_

#include <string>
#include <string_view>

namespace lockstep {

// Appends `text` as a JSON string, in quotes. Whatever could end a line or steer a terminal is
// escaped: control characters, those beyond ASCII included, and the Unicode line and paragraph
// separators. Bytes that are not UTF-8 become U+FFFD.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TELEMETRY_JSON_STRING_H_
