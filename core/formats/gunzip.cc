#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/formats/inflate.h"
#include "core/formats/readers.h"

namespace lockstep {

absl::StatusOr<std::string> Gunzip(std::string_view file, int64_t max_bytes) {
  std::string output;
  size_t position = 0;
  do {  // a gzip file is one or more members, whose contents are joined
    if (!file.substr(position).starts_with("\x1f\x8b")) {
      return absl::InvalidArgumentError(
          absl::StrCat("gzip: no gzip header at byte ", position, " of ", file.size()));
    }
    absl::StatusOr<Inflated> member = Inflate(file.substr(position), DeflateWrapper::kGzip,
                                              max_bytes - static_cast<int64_t>(output.size()));
    if (!member.ok()) {
      return absl::Status(member.status().code(), absl::StrCat("gzip: member at byte ", position,
                                                               ": ", member.status().message()));
    }
    if (output.empty()) {
      output = std::move(member->bytes);
    } else {
      output += member->bytes;
    }
    position += member->consumed;
  } while (position < file.size());
  return output;
}

}  // namespace lockstep
