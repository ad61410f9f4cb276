#ifndef LOCKSTEP_SERVER_API_NAMES_H_
#define LOCKSTEP_SERVER_API_NAMES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"

namespace lockstep {

// OK for 1 to `max_length` characters of A-Z a-z 0-9 and `punctuation` (". _ -" style names differ
// in it). INVALID_ARGUMENT names the field, the value and what is allowed.
absl::Status CheckName(const std::string& field, const std::string& value, size_t max_length,
                       const std::string& punctuation);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_NAMES_H_
