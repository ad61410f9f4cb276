#ifndef LOCKSTEP_SERVER_API_RUN_GUARDED_H_
#define LOCKSTEP_SERVER_API_RUN_GUARDED_H_

#include <exception>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep {

// What `work` returns, an absl::Status or StatusOr; INTERNAL for what it throws: a library's
// exception ends one call, not the server.
template <typename Work>
auto RunGuarded(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected: ", error.what()));
  }
}

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_API_RUN_GUARDED_H_
