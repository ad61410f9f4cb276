#ifndef LOCKSTEP_TESTS_TEMPORARY_DIRECTORY_H_
#define LOCKSTEP_TESTS_TEMPORARY_DIRECTORY_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace lockstep {

// A directory of a test's own, gone with it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(testing::TempDir() + "lockstep.XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "cannot create " << path_;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_TEMPORARY_DIRECTORY_H_
