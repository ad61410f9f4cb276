#ifndef LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_
#define LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/network/network.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Changes training images as training.proto says: flips, then the shift, then the cutout. What
// happens to an image is a function of the seed, the epoch, the sample's number in the data set and
// the input's number (core/README.md, rule 17). Thread-safe.
class Augmentation {
 public:
  // Of the inputs that are images. `spec` has been checked; an empty one changes nothing.
  Augmentation(const v1::Augmentation& spec, std::span<const NetworkInput> inputs, uint64_t seed);

  // The images in a sample's row of inputs, in place; `epoch` counts from 1.
  void Apply(int64_t epoch, int32_t sample, float* row) const;

 private:
  struct Image {
    uint32_t input;
    int64_t begin;  // in the row
    int64_t height, width, channels;
    float outside;  // what a raw 0 becomes
  };

  void Change(const Image& image, int64_t epoch, int32_t sample, float* x) const;

  const v1::Augmentation spec_;
  const uint64_t seed_;
  std::vector<Image> images_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_AUGMENTATION_H_
