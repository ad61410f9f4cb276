#ifndef LOCKSTEP_TESTS_CORE_FORMATS_HOSTILE_H_
#define LOCKSTEP_TESTS_CORE_FORMATS_HOSTILE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/data/tensor.h"

// What every reader of strangers' files is put through.
namespace lockstep {

inline std::string TestFile(const std::string& name) {
  std::ifstream stream(std::string(TESTDATA_DIR "/") + name, std::ios::binary);
  EXPECT_TRUE(stream.good()) << name;
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A copy of `bytes` in a block of exactly its size, so that a sanitizer sees every step beyond it.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view bytes)
      : block_(std::make_unique<char[]>(bytes.size())), size_(bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), block_.get());
  }
  std::string_view view() const { return {block_.get(), size_}; }

 private:
  std::unique_ptr<char[]> block_;
  size_t size_;
};

// Every file cut short is refused, with words.
template <typename Reader>
void ExpectEveryPrefixRefused(std::string_view file, Reader read) {
  for (size_t size = 0; size < file.size(); ++size) {
    const ExactCopy prefix(file.substr(0, size));
    const auto result = read(prefix.view());
    ASSERT_FALSE(result.ok()) << "cut to " << size << " of " << file.size() << " bytes";
    ASSERT_FALSE(result.status().message().empty());
  }
}

// Every file with one byte changed is read or refused, but never read beyond its end (which is the
// sanitizers' to see). Returns how many of the changed files were refused.
template <typename Reader>
int RefusedAmongDamaged(std::string_view file, Reader read) {
  std::mt19937 random(20240607);
  int refused = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    for (int change : {0x01, 0x80, 0xff, 1 + static_cast<int>(random() % 255)}) {
      std::string damaged(file);
      damaged[i] = static_cast<char>(damaged[i] ^ change);
      const ExactCopy copy(damaged);
      refused += !read(copy.view()).ok();
    }
  }
  return refused;
}

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  const T* begin = reinterpret_cast<const T*>(tensor.bytes.data());
  return {begin, begin + tensor.bytes.size() / sizeof(T)};
}

// The message of a refusal; fails the test when it is none.
template <typename T>
std::string Refusal(const absl::StatusOr<T>& result) {
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(result.status().message());
}

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_FORMATS_HOSTILE_H_
