#ifndef LOCKSTEP_CORE_TENSOR_SHAPE_H_
#define LOCKSTEP_CORE_TENSOR_SHAPE_H_

#include <cstdint>
#include <initializer_list>
#include <numeric>
#include <span>
#include <vector>

namespace lockstep {

// Shape of one sample of an activation, channels last and without the batch: [C] or [H, W, C]. All
// dimensions are >= 1 and their product is at most 2^28 once a network has been built.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}

  std::span<const int64_t> dims() const { return dims_; }
  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t operator[](int i) const { return dims_[i]; }

  // The last dimension: columns of the activation seen as a matrix.
  int64_t channels() const { return dims_.back(); }
  // Rows of that matrix a sample: H * W, or 1.
  int64_t positions() const { return size() / channels(); }
  // Elements of a sample.
  int64_t size() const {
    return std::accumulate(dims_.begin(), dims_.end(), int64_t{1}, std::multiplies<>());
  }
  bool operator==(const Shape&) const = default;

 private:
  std::vector<int64_t> dims_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TENSOR_SHAPE_H_
