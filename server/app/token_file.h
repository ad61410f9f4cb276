#ifndef LOCKSTEP_SERVER_APP_TOKEN_FILE_H_
#define LOCKSTEP_SERVER_APP_TOKEN_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// The token in a file, without the white space around it. INVALID_ARGUMENT when there is none.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

// Makes up a token of 256 random bits and leaves it in a file that only its owner can read.
absl::StatusOr<std::string> WriteNewToken(const std::string& path);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_TOKEN_FILE_H_
