#ifndef LOCKSTEP_CORE_TENSOR_ALIGNED_BUFFER_H_
#define LOCKSTEP_CORE_TENSOR_ALIGNED_BUFFER_H_

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace lockstep {

// A fixed number of values, zero at first, starting on a cache line. A large one lies on huge pages
// where the system has some: thousands of page faults would be half of the time until the first
// step.
template <typename T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t size) : size_(size) {
    if (size == 0) return;
    const size_t bytes = (static_cast<size_t>(size) * sizeof(T) + kLine - 1) / kLine * kLine;
    const bool large = bytes >= kLarge;
    void* memory = nullptr;
    if (posix_memalign(&memory, large ? kHugePage : kLine, bytes) != 0) throw std::bad_alloc();
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);  // a wish, which may fail
    data_.reset(static_cast<T*>(memory));
    std::memset(data_.get(), 0, bytes);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  std::span<T> span() { return {data_.get(), static_cast<size_t>(size_)}; }
  std::span<const T> span() const { return {data_.get(), static_cast<size_t>(size_)}; }

 private:
  static constexpr size_t kLine = 64;
  static constexpr size_t kHugePage = 2 << 20;
  static constexpr size_t kLarge = 4 * kHugePage;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
  int64_t size_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TENSOR_ALIGNED_BUFFER_H_
