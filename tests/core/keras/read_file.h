#ifndef LOCKSTEP_TESTS_CORE_KERAS_READ_FILE_H_
#define LOCKSTEP_TESTS_CORE_KERAS_READ_FILE_H_

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace lockstep {

// testdata/<name>.json
inline std::string ReadKerasJson(const std::string& name) {
  std::ifstream file(TESTDATA_DIR "/" + name + ".json");
  EXPECT_TRUE(file.is_open()) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_KERAS_READ_FILE_H_
