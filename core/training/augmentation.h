#ifndef LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_
#define LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_

#include <cstdint>

#include "core/tensor/shape.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Changes training images as training.proto says: flips, then the shift, then the cutout. What
// happens to an image is a function of the seed, the epoch and the sample's number in the data set
// (core/README.md, rule 17). Thread-safe.
class Augmentation {
 public:
  // Of images [height, width, channels]; values outside are `outside` (what a raw 0 becomes).
  // `spec` has been checked. For an empty one Apply does nothing, whatever the shape.
  Augmentation(const v1::Augmentation& spec, const Shape& image, float outside, uint64_t seed);

  // In place; `epoch` counts from 1.
  void Apply(int64_t epoch, int32_t sample, float* image) const;

 private:
  void FlipHorizontally(float* image) const;
  void FlipVertically(float* image) const;
  void Shift(int64_t rows, int64_t columns, float* image) const;
  void CutOut(int64_t row, int64_t column, float* image) const;

  const v1::Augmentation spec_;
  const bool active_;
  int64_t height_ = 1;
  int64_t width_ = 1;
  int64_t channels_ = 1;
  const float outside_;
  const uint64_t seed_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_
