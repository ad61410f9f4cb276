#ifndef LOCKSTEP_SERVER_SERVING_QUOTED_H_
#define LOCKSTEP_SERVER_SERVING_QUOTED_H_

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// A client's word for a message to that client: 'name', escaped and cut, since a status travels in
// headers, which have little room.
inline std::string Quoted(absl::string_view name) {
  constexpr size_t kLongest = 128;
  return absl::StrCat("'", absl::CEscape(name.substr(0, kLongest)),
                      name.size() > kLongest ? "...'" : "'");
}

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_QUOTED_H_
