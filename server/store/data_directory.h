#ifndef LOCKSTEP_SERVER_STORE_DATA_DIRECTORY_H_
#define LOCKSTEP_SERVER_STORE_DATA_DIRECTORY_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/store/files.h"

namespace lockstep {

// Everything a server keeps lives below one directory, which it locks for as long as it runs. This
// is the one place that knows the names in it. All paths are absolute.
class DataDirectory {
 public:
  // Creates what is missing. FAILED_PRECONDITION when another server holds the lock.
  static absl::StatusOr<DataDirectory> Open(const std::string& path);

  const std::string& path() const { return path_; }
  std::string database() const { return path_ + "/lockstep.db"; }
  std::string blobs() const { return path_ + "/blobs"; }
  std::string runs() const { return path_ + "/runs"; }
  std::string cache() const { return path_ + "/cache"; }
  std::string worker_socket() const { return path_ + "/worker.sock"; }
  std::string worker_token() const { return path_ + "/worker.token"; }
  std::string address() const { return path_ + "/address"; }
  std::string http_address() const { return path_ + "/http_address"; }

 private:
  DataDirectory(std::string path, File lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  File lock_;  // flock ends when the descriptor closes, however the process ends
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_DATA_DIRECTORY_H_
