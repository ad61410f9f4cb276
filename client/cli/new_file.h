#ifndef LOCKSTEP_CLIENT_CLI_NEW_FILE_H_
#define LOCKSTEP_CLIENT_CLI_NEW_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lockstep {

// A file that appears under its name only when it is whole: until then it is "<path>.part", which
// goes away if nobody commits it. Not thread-safe.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {}
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // FAILED_PRECONDITION, here and below, says what the system said.
  absl::Status Open();
  absl::Status Append(std::string_view bytes);
  absl::Status Commit();

 private:
  std::string part() const { return path_ + ".part"; }
  absl::Status Error() const;

  const std::string path_;
  int descriptor_ = -1;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_NEW_FILE_H_
